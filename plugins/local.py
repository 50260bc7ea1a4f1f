"""What the built-in processors of local data share: looking at files and folders, and at their job."""

from __future__ import annotations

import bisect
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ingest.errors import ConfigError, ItemError, SourceMissing, SourceUnreadable
from ingest.items import FileItem, Grid, Item, Tile

SUFFIX_PATTERN = r"^\.?[A-Za-z0-9]+(\.[A-Za-z0-9]+)*$"
"""A file's suffix, such as ``png`` or ``ome.tif``; it can lead nowhere."""


def check_folder(path: str) -> None:
    """Look whether the folder at ``root_dir`` is there, can be listed, and has something in it.

    Raises:
        ConfigError: it has not, and why. An empty one is what is left where a drive is not mounted.
    """
    place = "path_processor.params.root_dir"
    try:
        with os.scandir(path) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        raise ConfigError(_why_no_folder(path, error), place=place) from None
    if empty:
        raise ConfigError(f"the folder {path!r} is empty", place=place, hint="is its drive mounted?")


def regular_file(path: str) -> Path:
    """``path`` as a Path, if a regular file lies there; a pipe or a device is never opened.

    Raises:
        SourceMissing: nothing is there.
        SourceUnreadable: it is something else, or cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - quicker than Path's own
    except (FileNotFoundError, NotADirectoryError):
        raise SourceMissing(f"there is no file {path!r}") from None
    except OSError as error:
        raise SourceUnreadable(f"{path!r} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise SourceUnreadable(f"{path!r} is no regular file")
    return Path(path)


def _why_no_folder(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no folder {path!r} on this machine"
    if isinstance(error, NotADirectoryError):
        return f"{path!r} is a file; expected a folder"
    return f"the folder {path!r} cannot be listed: {error.strerror}"


def grid_of(grid: Grid | None, processor: str) -> Grid:
    """``grid``, if the job has one.

    Raises:
        ConfigError: the job is over files.
    """
    if grid is None:
        raise ConfigError(f"{processor!r} serves jobs of type 'tiles' only", place="ingest_job.type")
    return grid


def tile_of(item: Item, processor: str) -> Tile:
    """``item``, if it is a tile.

    Raises:
        ItemError: it is a file.
    """
    if not isinstance(item, Tile):
        raise ItemError(f"{processor!r} serves tiles; {item.name!r} is a file")
    return item


def beside(path: str, paths: Sequence[str]) -> tuple[FileItem | None, FileItem | None]:
    """The files before and after ``path`` among ``paths``, which are in the order of their bytes.

    It need not be among them: it may have vanished since they were listed.
    """
    key = os.fsencode(path)
    before = bisect.bisect_left(paths, key, key=os.fsencode)
    after = bisect.bisect_right(paths, key, key=os.fsencode)
    return (
        FileItem(paths[before - 1]) if before > 0 else None,
        FileItem(paths[after]) if after < len(paths) else None,
    )
