"""Walking a folder's tree: lazily, in a stable order, and saying what was left out."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import SourceUnreadable
from ingest.items import FileItem
from ingest.plugins.patterns import Choice
from ingest.system_names import LOST_AND_FOUND, hidden_kind

LINK_OUT = "symbolic link to what lies elsewhere"
CLOSED_LOST_AND_FOUND = "lost+found that only root may look into"


def is_below(path: str, root: str) -> bool:
    """Whether ``path`` lies below ``root``; both are resolved already."""
    return path.startswith(root.rstrip("/") + "/")


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder being walked: its path with a trailing slash, what is left of it, and its (device, inode)."""

    prefix: str
    entries: Iterator[os.DirEntry[str]]
    identity: tuple[int, int] | None


class Walk:
    """One pass over a tree, depth first; the entries of a folder come in the order of their names' bytes.

    The entries of one folder at each depth are held, and nothing else. A file whose size cannot be asked
    for is listed without one, so that it fails by itself instead of being passed over.

    Args:
        hidden: take hidden names too, and with them, where ``system`` does not say otherwise, what operating
            systems leave.
        recovered: take what a repair of the disk found, in ``lost+found``. Where that may not be listed, it is left out
            as a kind of its own.
    """

    def __init__(
        self,
        root: str,
        choice: Choice,
        *,
        hidden: bool,
        system: bool | None = None,
        recovered: bool = False,
        follow_links: bool,
        left_out: Counter[str],
    ) -> None:
        self._root = root
        self._real_root = os.path.realpath(root)
        self._choice = choice
        self._takes = {None: True, "hidden": hidden, "system": hidden if system is None else system}
        self._recovered = recovered
        self._follow_links = follow_links
        self._left_out = left_out

    def files(self, after: str | None = None) -> Iterator[FileItem]:
        """The files that come strictly after the path ``after``, which need not exist any more.

        Folders that come before it are not looked into.

        Raises:
            SourceUnreadable: a folder cannot be listed.
        """
        walked = [self._enter("", after)]
        while walked:
            folder = walked[-1]
            entry = next(folder.entries, None)
            if entry is None:
                walked.pop()
                continue
            path = folder.prefix + entry.name
            info = self._look(entry, path, walked)
            if info is None:
                continue
            if isinstance(info, os.stat_result) and stat.S_ISDIR(info.st_mode):
                walked.append(self._enter(path + "/", after, info))
            elif after is None or not (after == path or after.startswith(path + "/")):
                yield _item(path, info)

    def files_in(self, folder: str) -> list[FileItem]:
        """The files that lie in a folder itself, in order; ``folder`` is a path below the root, or "".

        Raises:
            SourceUnreadable: it cannot be listed.
        """
        prefix = folder + "/" if folder else ""
        found = []
        for entry in self._enter(prefix, None).entries:
            path = prefix + entry.name
            info = self._look(entry, path, [])
            if info is not None and not (isinstance(info, os.stat_result) and stat.S_ISDIR(info.st_mode)):
                found.append(_item(path, info))
        return found

    def _enter(self, prefix: str, after: str | None, info: os.stat_result | None = None) -> _Folder:
        """The folder at ``prefix``, without the entries that come before ``after``."""
        try:
            with os.scandir(f"{self._root}/{prefix}") as scan:
                entries = list(scan)
            if info is None and self._follow_links:
                info = Path(self._root).stat()
        except OSError as error:
            raise _not_listed(f"{self._root}/{prefix}", error) from error
        if after is not None and after.startswith(prefix):
            first = os.fsencode(after[len(prefix) :].partition("/")[0])
            entries = [entry for entry in entries if os.fsencode(entry.name) >= first]
        entries.sort(key=lambda entry: os.fsencode(entry.name))
        return _Folder(prefix, iter(entries), (info.st_dev, info.st_ino) if info else None)

    def _look(
        self, entry: os.DirEntry[str], path: str, walked: list[_Folder]
    ) -> os.stat_result | FileItem | None:
        """What lies at a path: an item for what can only fail, None for what is left out (and counted)."""
        kind = hidden_kind(entry.name)
        if self._recovered and entry.name == LOST_AND_FOUND:
            kind = None if os.access(entry.path, os.R_OK | os.X_OK) else CLOSED_LOST_AND_FOUND
        elif self._takes[kind]:
            kind = None
        info: os.stat_result | FileItem | None = None
        if kind is None:
            info = self._stat(entry, path)
            kind = self._kind_of(info, path, walked)
        if kind is not None:
            self._left_out[kind] += 1
            return None
        return info

    def _stat(self, entry: os.DirEntry[str], path: str) -> os.stat_result | FileItem:
        try:
            info = entry.stat(follow_symlinks=False)
            if not (self._follow_links and stat.S_ISLNK(info.st_mode)):
                return info
            if not is_below(os.path.realpath(entry.path), self._real_root) and not self._is_root(entry.path):
                return FileItem(path)
            return entry.stat()
        except OSError as error:
            if _is_folder(entry):
                raise _not_listed(entry.path, error) from error
            return FileItem(path)

    def _kind_of_link(self, link: str) -> str:
        """A link to what lies below the root, or to nothing, takes nothing away when it is left out."""
        target = os.path.realpath(link)
        leaves = target != self._real_root and not is_below(target, self._real_root)
        return LINK_OUT if leaves and os.path.lexists(target) else "symbolic link"

    def _is_root(self, path: str) -> bool:
        return os.path.realpath(path) == self._real_root

    def _kind_of(self, info: os.stat_result | FileItem, path: str, walked: list[_Folder]) -> str | None:
        """The kind under which this is left out, or None."""
        if isinstance(info, FileItem):
            return self._choice(path, False)
        if stat.S_ISLNK(info.st_mode):
            return self._kind_of_link(f"{self._root}/{path}")
        is_folder = stat.S_ISDIR(info.st_mode)
        if not is_folder and not stat.S_ISREG(info.st_mode):
            return "special file"
        if is_folder and any(folder.identity == (info.st_dev, info.st_ino) for folder in walked):
            return "link to a folder above it"
        return self._choice(path, is_folder)


def _item(path: str, info: os.stat_result | FileItem) -> FileItem:
    return info if isinstance(info, FileItem) else FileItem(path, info.st_size, info.st_mtime_ns)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether the listing that named this entry said that it is a folder; it may be gone by now."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _not_listed(folder: str, error: OSError) -> SourceUnreadable:
    return SourceUnreadable(
        f"the folder {folder!r} cannot be listed: {error.strerror}",
        hint="make it readable, or leave it out with `exclude`",
    )
