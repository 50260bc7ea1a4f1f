"""A card's file, read for its copy and its SHA-256 in one; a card that is worn out is told."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ingest.digests import hashed
from ingest.errors import SourceMissing, SourceUnreadable

PIECE_BYTES = 4 << 20


class Reading:
    """A file of a card that is read to be copied; its SHA-256 is taken on the way, so that it is read once.

    Args:
        check: raises to interrupt; called for each piece.
    """

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        self._path = path
        self._check = check
        self._sha256: str | None = None

    def fetch(self, copy: BinaryIO, offset: int) -> str | None:
        """Append the file's bytes from ``offset`` on to a copy.

        Raises:
            SourceMissing, SourceUnreadable: the file cannot be read.
        """
        sha256 = hashlib.sha256()
        for piece in self._pieces(offset):
            copy.write(piece)
            sha256.update(piece)
        self._sha256 = sha256.hexdigest() if offset == 0 else None
        return self._sha256

    def sha256(self) -> str:
        """The file's SHA-256: as it was copied, else by reading it.

        Raises:
            SourceMissing, SourceUnreadable: the file cannot be read.
        """
        if self._sha256 is None:
            self._sha256, _ = hashed(self._pieces(0))
        return self._sha256

    def _pieces(self, offset: int) -> Iterator[bytes]:
        file = _opened(self._path)
        try:
            os.lseek(file, offset, os.SEEK_SET)
            while piece := self._piece(file):
                yield piece
                self._check()
        finally:
            os.close(file)

    def _piece(self, file: int) -> bytes:
        try:
            return os.read(file, PIECE_BYTES)
        except OSError as error:
            raise SourceUnreadable(
                f"{str(self._path)!r} cannot be read to its end: {error.strerror}",
                hint="is the card worn out?",
            ) from error


def _opened(path: Path) -> int:
    """A descriptor, of what the card itself has, as far as the system lets itself be asked for that.

    The time of last access stays as it was where the system lets us ask for that.
    """
    file = _descriptor(path, os.O_RDONLY | os.O_CLOEXEC)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    return file


def _descriptor(path: Path, flags: int) -> int:
    with suppress(OSError):  # it is granted to the file's owner alone; what else is wrong is said below
        return os.open(path, flags | getattr(os, "O_NOATIME", 0))
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        raise SourceMissing(f"there is no file {str(path)!r}") from None
    except OSError as error:
        raise SourceUnreadable(f"{str(path)!r} cannot be read: {error.strerror}") from error
