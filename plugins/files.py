"""Files in a folder, stored as they are: the path processor ``folder`` and the tile processor ``file``."""

from __future__ import annotations

import mimetypes
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from ingest.config import ConfigPath
from ingest.errors import ConfigError, ItemError
from ingest.items import FileItem, Item
from ingest.plugins.folder_walk import Walk, is_below
from ingest.plugins.local import beside, check_folder, regular_file
from ingest.plugins.patterns import EXCLUDE, INCLUDE, Patterns, choice_of
from ingest.processors import Params, PathProcessor, Source, TileProcessor, Upload

# A table of its own, not the machine's /etc/mime.types, so that all nodes agree.
_MEDIA_TYPES = mimetypes.MimeTypes(filenames=())


class FolderParams(Params):
    """Parameters of ``folder``."""

    root_dir: ConfigPath = Field(
        description="The folder; all files below it are items. Each node must see it here."
    )
    include: Patterns = Field(default=(), description=INCLUDE)
    exclude: Patterns = Field(default=(), description=EXCLUDE)
    hidden: bool = Field(
        default=False,
        description="Take hidden and system files too: names that start with a dot, `Thumbs.db`, "
        "`$RECYCLE.BIN`, `System Volume Information`, `lost+found` and the like.",
    )
    follow_links: bool = Field(
        default=False,
        description="Follow symbolic links to files and folders below `root_dir`. "
        "One that leaves it is a failed item.",
    )


class Folder(PathProcessor[FolderParams]):
    """The files below a folder, depth first, each folder's entries in the order of their names' bytes.

    Patterns are git's: case counts, one without a slash fits names at any depth, one that starts with a slash
    only below ``root_dir``, one that ends with a slash only folders. What is left out is counted by kind in
    ``left_out``, a folder as one: ``hidden``, ``system``, ``excluded``, ``not included``, ``symbolic link``,
    ``symbolic link to what lies elsewhere``, ``special file`` (a pipe, socket or device, which is never opened) and
    ``link to a folder above it``.

    Errors: a folder that cannot be listed stops the listing (SourceUnreadable). A file that vanishes is
    SourceMissing when its turn comes.
    """

    Params: ClassVar[type[Params]] = FolderParams
    _resolved_last: tuple[str, str] = "", ""
    _regular_last = ""
    _listed_last: tuple[str | None, list[str]] = None, []

    @cached_property
    def _root(self) -> str:
        return str(self.params.root_dir)

    @cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self._root)

    def check(self) -> None:
        """Look whether the folder is there, can be listed and has something in it, and whether the job is over files.

        An empty one is a drive that is not mounted: its listing would come to its end at once, and count for whole.
        """
        if self.context.grid is not None:
            raise ConfigError(
                "folder lists files; it does not know the file of a tile",
                place="path_processor.class",
                hint="for a job of type 'tiles' take z_stack or catmaid_files",
            )
        check_folder(self._root)

    def paths(self, after: str | None = None) -> Iterator[FileItem]:
        """The files, lazily: only the entries of one folder at each depth are held in memory."""
        self.left_out.clear()
        yield from self._walk(self.left_out).files(after)

    def _walk(self, left_out: Counter[str]) -> Walk:
        choice = choice_of(self.params.include, self.params.exclude)
        hidden, follow_links = self.params.hidden, self.params.follow_links
        return Walk(self._root, choice, hidden=hidden, follow_links=follow_links, left_out=left_out)

    def neighbours(self, item: FileItem) -> tuple[FileItem | None, FileItem | None]:
        """The files before and after this one in its folder, of those that :meth:`paths` lists."""
        return beside(item.path, self._files_in(item.path.rpartition("/")[0]))

    def beside(self, item: FileItem) -> Sequence[FileItem]:
        """The files of this one's folder that :meth:`paths` lists; without sizes and times."""
        return [FileItem(path) for path in self._files_in(item.path.rpartition("/")[0])]

    def _files_in(self, folder: str) -> list[str]:
        """A folder's files. They are listed once for neighbours, which come together."""
        if folder != self._listed_last[0]:
            self._listed_last = folder, [item.path for item in self._walk(Counter()).files_in(folder)]
        return self._listed_last[1]

    def path(self, item: Item) -> str:
        """The file's absolute path.

        Raises:
            ItemError: the item is no file, or its path leads out of the root, by itself or through a link.
        """
        if not isinstance(item, FileItem):
            raise ItemError("`folder` serves jobs of type 'files' only")
        segments = item.path.split("/")
        if "" in segments or "." in segments or ".." in segments or "\0" in item.path:
            raise ItemError(f"{item.path!r} is no path below {self._root}")
        path = f"{self._root}/{item.path}"
        if not is_below(self._resolved(path), self._real_root):
            raise ItemError(f"{item.path!r} is, or lies behind, a symbolic link that leaves {self._root}")
        return path

    def _resolved(self, path: str) -> str:
        """``path`` without symbolic links. Its folder is resolved once for neighbours, which come together."""
        folder, _, name = path.rpartition("/")
        if folder != self._resolved_last[0]:
            self._resolved_last = folder, os.path.realpath(folder)
        resolved = f"{self._resolved_last[1]}/{name}"
        self._regular_last = ""
        try:
            mode = os.lstat(resolved).st_mode
        except OSError:  # whoever opens it says why
            return resolved
        if stat.S_ISREG(mode):
            self._regular_last = path
        return os.path.realpath(resolved) if stat.S_ISLNK(mode) else resolved

    def open(self, path: str) -> AbstractContextManager[Path]:
        """The file itself.

        Raises:
            SourceMissing: it is not there.
            SourceUnreadable: it is no regular file, or cannot be asked for.
        """
        return nullcontext(Path(path) if path == self._regular_last else regular_file(path))


class FileAsIs(TileProcessor[Params]):
    """The file as it is: one upload, of the same bytes, with the media type that its suffix stands for.

    A suffix that Python's own table does not know, and compressed ones such as ``.gz``, are
    ``application/octet-stream``.
    """

    def uploads(self, source: Source) -> Iterator[Upload]:
        yield Upload(source.path, media_type(os.path.splitext(source.path)[1]))  # noqa: PTH122


@lru_cache(1024)
def media_type(suffix: str) -> str:
    """What a suffix, with its dot, stands for; compressed ones are ``application/octet-stream``."""
    media_type, encoding = _MEDIA_TYPES.guess_type(f"file{suffix}")
    return media_type if media_type and not encoding else "application/octet-stream"
