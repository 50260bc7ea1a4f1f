"""Walking the folders of a ``file://`` store by descriptor: no symbolic link leads out of its root."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ingest.stores.base import INTERNAL

TEMP_PREFIX = ".ingest-tmp-"
"""How unfinished files are named. They are never listed, and no key may have such a name in it."""

_INTERNAL = INTERNAL.encode()

LOST_AND_FOUND = b"lost+found/"
"""In the root of many a drive, for its owner alone: no folder of ours where it cannot be looked into."""

ATTEMPTS = 50  # to make a folder that others just remove as empty
_UNNAMED: int = getattr(os, "O_TMPFILE", 0) if Path("/proc/self/fd").is_dir() else 0
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_RENAME_NEW, _ONLY_NEW = ("renameatx_np", 4) if sys.platform == "darwin" else ("renameat2", 1)
"""The system's call that renames, and its flag to do so only where nothing has the new name."""


@contextmanager
def folder_of(root: str, key: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder that ``key`` lies in, and its file's name.

    Folders are made where ``create``, each fsynced into its parent; the root itself never is.

    Raises:
        OSError: ENOENT where a folder is missing, and of a key that would leave the root, as a manifest that somebody
            else wrote may name; ENOTDIR or ELOOP where a file or a link is in its place.
    """
    *parts, name = key.split("/")
    if ".." in (*parts, name) or "\0" in key:
        raise FileNotFoundError(errno.ENOENT, "no key leaves the folder")
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            below = _enter(folder, part, create=create)
            os.close(folder)
            folder = below
        yield folder, name
    finally:
        os.close(folder)


def _enter(folder: int, part: str, *, create: bool) -> int:
    try:
        return os.open(part, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(part, dir_fd=folder)
        os.fsync(folder)
    return os.open(part, _FOLDER, dir_fd=folder)


@contextmanager
def new_file(root: str, key: str, temp: str) -> Iterator[tuple[int, str, int, bool]]:
    """A new file beside ``key``: descriptors of the folder and of the file, the key's name, and whether ``temp``
    names the file. Where the system can (Linux, most file systems) it has no name yet, so that a process that is
    killed leaves nothing behind.

    Another process may just be removing a folder that it found empty, so this tries several times.

    Raises:
        OSError: as :func:`folder_of`.
    """
    for attempts_left in reversed(range(ATTEMPTS)):
        with ExitStack() as stack:
            try:
                folder, name = stack.enter_context(folder_of(root, key, create=True))
                descriptor, named = _open_new(folder, temp)
            except FileNotFoundError:
                if not attempts_left or not Path(root).is_dir():
                    raise
                continue
            stack.callback(os.close, descriptor)
            yield folder, name, descriptor, named
            return


def _open_new(folder: int, temp: str) -> tuple[int, bool]:
    if _UNNAMED:
        # Where that cannot be, the plain way says why: it is not supported here, or the folder is just removed.
        with suppress(OSError):
            return os.open(".", os.O_RDWR | _UNNAMED, 0o666, dir_fd=folder), False
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.open(temp, flags, 0o666, dir_fd=folder), True


@contextmanager
def naming(root: str, key: str, descriptor: int, temp: str | None) -> Iterator[tuple[int, str]]:
    """Name a file that has no name yet ``temp``, beside ``key``, or by the key itself where ``temp`` is None.

    Yields a descriptor of the folder, and the key's name.

    An unnamed file does not keep its folder from being removed as empty, so it is made anew if need be.
    """
    for attempts_left in reversed(range(ATTEMPTS)):
        with ExitStack() as stack:
            try:
                folder, name = stack.enter_context(folder_of(root, key, create=True))
                os.link(f"/proc/self/fd/{descriptor}", temp or name, dst_dir_fd=folder, follow_symlinks=True)
            except FileNotFoundError:
                if not attempts_left:
                    raise
                continue
            yield folder, name
            return


def rename_new(folder: int, temp: str, name: str) -> bool:
    """Rename a file, in one step, where nothing has its new name yet; False where the system cannot.

    For file systems without hard links, such as those of memory cards (exFAT, FAT): some of these take ``IMG.JPG``
    for ``img.jpg``, too, so that whoever renames plainly replaces another file.

    Raises:
        FileExistsError: something has it.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), _RENAME_NEW, None)
    if call is None:
        return False
    if call(folder, os.fsencode(temp), folder, os.fsencode(name), _ONLY_NEW) == 0:
        return True
    if ctypes.get_errno() == errno.EEXIST:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
    return False


def remove_empty(root: str, key: str) -> None:
    """Remove the folders above ``key`` that are empty, the root excepted."""
    parts = key.split("/")[:-1]
    while parts:
        with folder_of(root, "/".join(parts)) as (folder, name):
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError:
                return
        parts.pop()


def walk(root: str, prefix: bytes, after: bytes) -> Iterator[tuple[bytes, int]]:
    """Key and size in bytes of every plain file, in the order of the keys' bytes.

    The names of one folder at each depth are held in memory.

    Only folders that can hold a key beginning with ``prefix`` and greater than ``after`` are entered. Links
    and unfinished files are passed over.

    Raises:
        OSError: the root cannot be read.
    """
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield from _walk(folder, b"", prefix, after)
    finally:
        os.close(folder)


def _walk(folder: int, above: bytes, prefix: bytes, after: bytes) -> Iterator[tuple[bytes, int]]:
    for relative, size_bytes in _entries(folder):
        key = above + relative
        if size_bytes is not None:
            if key > after and key.startswith(prefix):
                yield key, size_bytes
            continue
        wanted = key.startswith(prefix) or prefix.startswith(key)
        if key == _INTERNAL and not prefix.startswith(_INTERNAL):
            continue
        if not wanted or (after > key and not after.startswith(key)):
            continue
        try:
            below = os.open(relative[:-1], _FOLDER, dir_fd=folder)
        except FileNotFoundError:
            continue
        except PermissionError as error:
            if key == LOST_AND_FOUND:
                continue
            raise PermissionError(error.errno, f"{error.strerror}: {os.fsdecode(key)}") from None
        try:
            yield from _walk(below, key, prefix, after)
        finally:
            os.close(below)


def _entries(folder: int) -> list[tuple[bytes, int | None]]:
    """Names and sizes in one folder; a folder's name ends in a slash, which puts it where its keys belong."""
    found: list[tuple[bytes, int | None]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                found.append((name + b"/", None))
            elif entry.is_file(follow_symlinks=False) and not entry.name.startswith(TEMP_PREFIX):
                with suppress(FileNotFoundError):
                    found.append((name, entry.stat(follow_symlinks=False).st_size))
    found.sort()
    return found
