"""Reading a local file that is to be stored: in pieces, hashed on the way, in bounded memory."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from ingest.errors import SourceChanged, SourceMissing, SourceUnreadable
from ingest.stores.base import Cut, ObjectMeta

HASHED_AT_ONCE_BYTES = 1 << 20
"""A piece that the processor's cache still has when it is hashed for the second time."""


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The file, open for reading; faults of opening and reading it are the item's.

    Raises:
        SourceMissing: it is not there.
        SourceUnreadable: it may not be read, or reading failed, or it is no regular file.
    """
    try:
        descriptor, _ = _opened(path)
    except OSError as error:
        raise source_error(error, path) from None
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _opened(path: Path) -> tuple[int, os.stat_result]:
    """A descriptor, and what it is of.

    What has taken the file's place since it was looked at is not waited for, nor read for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except BlockingIOError:  # a file server lets go of it when asked to wait; no pipe says so
        descriptor = os.open(path, os.O_RDONLY)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise SourceUnreadable(f"{path} is no regular file")
    return descriptor, found


def read_piece(file: BinaryIO, size_bytes: int, path: Path) -> bytes:
    """The next ``size_bytes``, or fewer at the end.

    Raises:
        SourceUnreadable: the medium failed.
    """
    try:
        return file.read(size_bytes)
    except OSError as error:
        raise source_error(error, path) from None


def hashed_pieces(
    path: Path, meta: ObjectMeta, piece_bytes: int, check: Callable[[], None]
) -> Iterator[bytes]:
    """The file in pieces, with ``check()`` before each; fails at its end where it is not what ``meta`` says.

    Raises:
        SourceChanged: the SHA-256 of what was read is not ``meta.sha256``.
        SourceMissing, SourceUnreadable: as :func:`opened`.
    """
    sha256 = hashlib.sha256()
    with opened(path) as file:
        while True:
            check()
            piece = read_piece(file, piece_bytes, path)
            if not piece:
                break
            sha256.update(piece)
            yield piece
    ensure_unchanged(sha256.hexdigest(), meta, path)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a file was when it was read: its SHA-256, its size, and the digests of its parts where it was cut."""

    sha256: str
    size_bytes: int
    digests: tuple[bytes, ...] | None


def fingerprint(
    path: Path,
    cut: Cut | None,
    check: Callable[[], None],
    also: Callable[[memoryview], None] = lambda piece: None,
) -> Fingerprint:
    """Read a file once, in bounded memory, for all that is to be known of its bytes; ``check()`` before each piece.

    ``also`` is given each piece.

    Raises:
        SourceMissing, SourceUnreadable: as :func:`opened`.
    """
    sha256, size_bytes = hashlib.sha256(), 0
    digests: list[hashlib._Hash] = []
    buffer = memoryview(bytearray(HASHED_AT_ONCE_BYTES))
    with opened(path) as file:
        while True:
            check()
            left_bytes = len(buffer) if cut is None else cut.part_bytes - size_bytes % cut.part_bytes
            piece = buffer[: _read_into(file, buffer[:left_bytes], path)]
            if not piece:
                break
            sha256.update(piece)
            also(piece)
            if cut is not None:
                if size_bytes % cut.part_bytes == 0:
                    digests.append(hashlib.new(cut.digest, usedforsecurity=False))
                digests[-1].update(piece)
            size_bytes += len(piece)
    parts = None if cut is None else tuple(digest.digest() for digest in digests)
    return Fingerprint(sha256.hexdigest(), size_bytes, parts)


def _read_into(file: BufferedReader, piece: memoryview, path: Path) -> int:
    try:
        return file.readinto(piece)
    except OSError as error:
        raise source_error(error, path) from None


def read_whole(path: Path, meta: ObjectMeta) -> bytes:
    """The whole of a small file.

    Raises:
        SourceChanged, SourceMissing, SourceUnreadable: as :func:`hashed_pieces`.
    """
    body = read_steady(path, size_of(path))
    ensure_unchanged(hashlib.sha256(body).hexdigest(), meta, path)
    return body


def read_steady(path: Path, size_bytes: int) -> bytes:
    """All of a file that has ``size_bytes``, and that does not change while it is read.

    By descriptor, which is quicker for small files than Python's file objects.

    Raises:
        SourceChanged: it has another size, or was written to meanwhile.
        SourceMissing, SourceUnreadable: as :func:`opened`.
    """
    try:
        descriptor, before = _opened(path)
        try:
            body = os.read(descriptor, size_bytes + 1)
            while len(body) < size_bytes and (more := os.read(descriptor, size_bytes + 1 - len(body))):
                body += more
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise source_error(error, path) from None
    _ensure_size(before.st_size, size_bytes)
    if len(body) != size_bytes or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise SourceChanged("it changed while it was read", hint="retry when nothing writes to it any more")
    return body


def size_of(path: Path) -> int:
    """The file's size in bytes.

    Raises:
        SourceMissing, SourceUnreadable: as :func:`opened`.
    """
    try:
        return os.stat(path).st_size  # noqa: PTH116 - quicker than Path's own
    except OSError as error:
        raise source_error(error, path) from None


def ensure_size(path: Path, size_bytes: int) -> None:
    """Fail where a file has not the size that it had before.

    Raises:
        SourceChanged: it has not.
        SourceMissing, SourceUnreadable: as :func:`opened`.
    """
    _ensure_size(size_of(path), size_bytes)


def _ensure_size(found_bytes: int, size_bytes: int) -> None:
    if found_bytes != size_bytes:
        raise SourceChanged(
            f"it had {size_bytes} bytes before and has {found_bytes} now",
            hint="retry when nothing writes to it any more",
        )


def ensure_unchanged(sha256: str, meta: ObjectMeta, path: Path) -> None:
    """Fail where ``sha256`` is not that of ``meta``.

    Raises:
        SourceChanged: it is not.
    """
    if sha256 != meta.sha256:
        raise changed(path)


def changed(path: Path) -> SourceChanged:
    """The item's error for a file that is not what it was."""
    return SourceChanged(
        f"{path} has changed since it was first read", hint="`ingest retry` takes it as it is now"
    )


def source_error(error: OSError, path: Path) -> SourceMissing | SourceUnreadable:
    """The item's error for a file that cannot be read."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return SourceMissing(f"{path} is not there any more")
    return SourceUnreadable(f"{path} cannot be read: {error.strerror or error}")
