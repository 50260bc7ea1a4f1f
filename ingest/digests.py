"""Hashes beside SHA-256 that others ask for, taken in the pass in which an upload is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_C4_LETTERS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_C4_LENGTH = 88
DIGESTS = ("c4",)
"""Those that can be asked for by name. ``c4`` is the C4 ID of SMPTE ST 2114: SHA-512 in base 58."""
PIECE_BYTES = 4 << 20


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
    with path.open("rb") as file:
        return c4_id(iter(lambda: file.read(PIECE_BYTES), b""))


def _c4(sha512: bytes) -> str:
    number, text = int.from_bytes(sha512, "big"), ""
    while number:
        number, digit = divmod(number, len(_C4_LETTERS))
        text = _C4_LETTERS[digit] + text
    return "c4" + text.rjust(_C4_LENGTH, _C4_LETTERS[0])
