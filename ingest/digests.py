"""Hashes of streams and files in bounded memory: SHA-256, and others that are asked for, taken in the same pass."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedReader, FileIO
from pathlib import Path

_C4_LETTERS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_C4_LENGTH = 88
DIGESTS = ("c4",)
"""Those that can be asked for by name. ``c4`` is the C4 ID of SMPTE ST 2114: SHA-512 in base 58."""
PIECE_BYTES = 1 << 20


def pieces_of(path: Path) -> Iterator[bytes]:
    """A file's bytes."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def hashed(pieces: Iterable[bytes], check: Callable[[], None] = lambda: None) -> tuple[str, int]:
    """The SHA-256 of a stream, in hexadecimal, and its size in bytes.

    Args:
        check: called after each piece; raises to interrupt.
    """
    sha256, size_bytes = hashlib.sha256(), 0
    for piece in pieces:
        sha256.update(piece)
        size_bytes += len(piece)
        check()
    return sha256.hexdigest(), size_bytes


def md5_of(body: bytes) -> str:
    """The MD5 of a body, in hexadecimal, as ETags are."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def etag_of_parts(md5s: Sequence[bytes]) -> str:
    """The ETag that AWS gives to an object that was joined of parts with these MD5s, each of 16 bytes."""
    return f"{md5_of(b''.join(md5s))}-{len(md5s)}"


def hashed_file(path: Path) -> tuple[str, int]:
    """As :func:`hashed`, of a file of our own, which nothing writes to meanwhile."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def hashed_body(body: bytes | Path) -> tuple[str, int]:
    """As :func:`hashed_file`, of what may be in memory."""
    return hashed((body,)) if isinstance(body, bytes) else hashed_file(body)


def hashed_on_disk(
    file: FileIO | BufferedReader, check: Callable[[], None] = lambda: None
) -> tuple[str, int]:
    """As :func:`hashed`, of a whole file as the disk has it, as far as the system lets itself be asked for that."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    file.seek(0)
    return hashed(iter(lambda: file.read(PIECE_BYTES), b""), check)


class Digests:
    """Some digests of one body, which passes through piece by piece.

    Args:
        names: of :data:`DIGESTS`; there may be none.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._sha512 = hashlib.sha512() if "c4" in names else None

    def update(self, piece: bytes | memoryview) -> None:
        """The next piece passes."""
        if self._sha512 is not None:
            self._sha512.update(piece)

    def over(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces, as they come."""
        for piece in pieces:
            self.update(piece)
            yield piece

    def found(self) -> dict[str, str]:
        """Each digest by its name, when all pieces have passed."""
        return {} if self._sha512 is None else {"c4": _c4(self._sha512.digest())}


def c4_id(pieces: Iterable[bytes]) -> str:
    """The C4 ID of a body, 90 characters long: ``c4`` and 88 digits of base 58."""
    digests = Digests(("c4",))
    for _ in digests.over(pieces):
        pass
    return digests.found()["c4"]


def c4_id_of_file(path: Path) -> str:
    """The C4 ID of a local file."""
    return c4_id(pieces_of(path))


def _c4(sha512: bytes) -> str:
    number, text = int.from_bytes(sha512, "big"), ""
    while number:
        number, digit = divmod(number, len(_C4_LETTERS))
        text = _C4_LETTERS[digit] + text
    return "c4" + text.rjust(_C4_LENGTH, _C4_LETTERS[0])
