"""Hashing a stream in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ingest.stores.base import never


def hashed(pieces: Iterable[bytes], check: Callable[[], None] = never) -> tuple[str, int]:
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


def hashed_file(path: Path) -> tuple[str, int]:
    """As :func:`hashed`, of a file of our own, which nothing writes to meanwhile."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
