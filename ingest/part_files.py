"""Unfinished files: each is one process's at a time, and gets its name when it is whole, and never another file's."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from ingest.errors import KeyInvalid

LOCK_POLL_S = 0.1
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class PartFile(io.FileIO):
    """A file that is written to whole, or not without a word; ``refused`` raises what an error means."""

    refused: Callable[[OSError], NoReturn]

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        size_bytes = len(view)
        while view:
            try:
                written = super().write(view) or 0
            except OSError as error:
                self.refused(error)
            view = view[written:]
        return size_bytes


@contextmanager
def locked_part(
    path: Path, refused: Callable[[OSError], NoReturn], check: Callable[[], None]
) -> Iterator[PartFile]:
    """The unfinished file at ``path``, made where it is not there, which no other process has meanwhile.

    Args:
        refused: see :class:`PartFile`.
        check: raises to interrupt; called while another process has it.

    Raises:
        OSError: it cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        descriptor = os.open(path, flags, 0o666)
        with PartFile(descriptor, "r+b") as part:
            part.refused = refused
            while not _lock(descriptor):
                check()
                time.sleep(LOCK_POLL_S)
            if not _is_at(descriptor, path):  # whoever had it gave it its name, or removed it
                continue
            if os.fstat(descriptor).st_nlink > 1:  # and died before it removed this one: it is finished
                path.unlink()
                continue
            yield part
            return


def give_name(part: Path, path: Path) -> None:
    """Give a finished file its name, and never that of another file.

    Raises:
        FileExistsError: there is one.
    """
    try:
        os.link(part, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # exFAT and the like have no links. The lock keeps other processes of Ingest away meanwhile.
        if path.exists() or path.is_symlink():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        part.rename(path)
        return
    part.unlink()


def make_folders(root: Path, folder: Path) -> None:
    """Make the folders below ``root``, each fsynced into its parent; no link may lead out of it.

    Raises:
        KeyInvalid: one does.
        OSError: a folder cannot be made; ``root`` itself never is.
    """
    for parent in [*reversed([below for below in folder.parents if root in below.parents]), folder]:
        if parent == root:
            continue
        with suppress(FileExistsError):
            parent.mkdir()
            sync_folder(parent.parent)
    real = os.path.realpath(folder)
    if real != os.path.realpath(root) and not real.startswith(os.path.realpath(root).rstrip("/") + "/"):
        raise KeyInvalid(f"{folder} lies behind a symbolic link that leaves {root}")


def sync_folder(folder: Path) -> None:
    """Make sure that the disk has a folder's names.

    Raises:
        OSError: it has not.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
