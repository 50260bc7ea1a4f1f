"""Conversions that lose nothing: how an object is turned back into the bytes of the file that it was made of."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import zstandard

from ingest.digests import PIECE_BYTES, pieces_of
from ingest.errors import SourceChanged, SourceUnreadable
from ingest.raw_audio import decode_flac

GZIP_LEVEL = 6
ZSTD_LEVEL = 9

Check = Callable[[], None]
"""Called before each piece; raises to interrupt."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A way to store a file.

    Attributes:
        name: as the manifest has it, in ``conversion``.
        content_type: the objects' media type; None where it goes by their name.
        decode: from a local copy of an object to the file's own bytes, in pieces, in bounded memory. It may be
            repeated; it raises SourceUnreadable where the object is not of this kind or corrupt. One that is cut off
            may just end too soon: whoever asks compares the bytes, or their hash.
    """

    name: str
    content_type: str | None
    decode: Callable[[Path], Iterator[bytes]]


def encode_gzip(source: Path, target: Path, check: Check = lambda: None) -> None:
    """Compress a file, without its name or time, so that the same bytes give the same bytes."""
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed,
    ):
        for piece in pieces_of(source):
            check()
            packed.write(piece)


def decode_gzip(path: Path) -> Iterator[bytes]:
    """See :class:`Conversion`."""
    try:
        with gzip.open(path) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceUnreadable(f"{path.name!r} cannot be unpacked: {error}") from error


def encode_zstd(source: Path, target: Path, check: Check = lambda: None) -> None:
    """Compress a file, with a checksum."""
    packer = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
    with (
        target.open("wb") as file,
        packer.stream_writer(file, size=source.stat().st_size, closefd=False) as packed,
    ):
        for piece in pieces_of(source):
            check()
            packed.write(piece)


def decode_zstd(path: Path) -> Iterator[bytes]:
    """See :class:`Conversion`."""
    unpacker = zstandard.ZstdDecompressor()
    try:
        with path.open("rb") as file, unpacker.stream_reader(file) as unpacked:
            while piece := unpacked.read(PIECE_BYTES):
                yield piece
    except zstandard.ZstdError as error:
        raise SourceUnreadable(f"{path.name!r} cannot be unpacked: {error}") from error


CONVERSIONS: Mapping[str, Conversion] = MappingProxyType(
    {
        conversion.name: conversion
        for conversion in (
            Conversion("as_is", None, pieces_of),
            Conversion("flac", "audio/flac", decode_flac),
            Conversion("gzip", "application/gzip", decode_gzip),
            Conversion("zstd", "application/zstd", decode_zstd),
        )
    }
)
"""Every conversion, by the name that manifests have for it."""


def compared(source: Path, decoded: Iterable[bytes], check: Check = lambda: None) -> str:
    """The SHA-256 of ``source``, when each of its bytes was found to be that of ``decoded``.

    Raises:
        SourceChanged: they differ: the source changed while it was converted, or a library or this machine errs.
    """
    sha256, size_bytes = hashlib.sha256(), 0
    with source.open("rb") as file:
        for piece in decoded:
            check()
            own = file.read(len(piece))
            if own != piece:
                break
            sha256.update(own)
            size_bytes += len(own)
        else:
            if not file.read(1):
                return sha256.hexdigest()
    raise SourceChanged(
        f"what {source.name!r} was converted to does not decode to its bytes, from byte {size_bytes:,} on",
        hint="did something write to it? If it happens again, store it as it is",
    )
