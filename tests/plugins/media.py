"""Small pictures, films and recordings that say when they were made."""

from __future__ import annotations

import io
import struct

from PIL import ExifTags, Image

MAC_EPOCH_S = 2_082_844_800
"""Seconds from 1904 to 1970."""


def jpeg(taken: str | None = None, *, offset: str = "", fraction: str = "", seed: int = 0) -> bytes:
    """A JPEG; ``taken`` is EXIF's, such as ``2026:06:01 12:00:00``."""
    base, exif = ExifTags.Base, Image.Exif()
    said = {
        base.DateTimeOriginal: taken,
        base.OffsetTimeOriginal: offset,
        base.SubsecTimeOriginal: fraction,
    }
    exif.get_ifd(ExifTags.IFD.Exif).update({int(tag): text for tag, text in said.items() if text})
    exif[base.DateTime] = "2020:01:01 00:00:00"
    file = io.BytesIO()
    colour = (seed % 256, seed // 256 % 256, seed // 65536 % 256)
    Image.new("RGB", (16, 16), colour).save(file, "jpeg", exif=exif)
    return file.getvalue()


def atom(kind: bytes, content: bytes, *, long: bool = False) -> bytes:
    """A piece of an MP4."""
    if long:
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content


def mp4(created_unix_s: int | None, *, version: int = 0, long: bool = False, seed: int = 0) -> bytes:
    """An MP4 whose header comes last, as cameras write it. None for a time that is not known."""
    seconds = 0 if created_unix_s is None else created_unix_s + MAC_EPOCH_S
    times = struct.pack(">QQ" if version else ">II", seconds, seconds)
    header = atom(b"mvhd", bytes([version, 0, 0, 0]) + times + bytes(80))
    film = atom(b"mdat", seed.to_bytes(4, "big") * 64, long=long)
    return atom(b"ftyp", b"mp42\0\0\0\0isom") + film + atom(b"moov", header)


def wav(*chunks: tuple[bytes, bytes], seed: int = 0) -> bytes:
    """A WAV with these chunks before its samples."""
    samples = seed.to_bytes(4, "big") * 32
    parts = [(b"fmt ", struct.pack("<HHIIHH", 1, 1, 48_000, 96_000, 2, 16)), *chunks, (b"data", samples)]
    body = b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for kind, content in parts
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def bext(date: str, time: str) -> tuple[bytes, bytes]:
    """A Broadcast Wave's chunk."""
    return b"bext", bytes(320) + (date + time).encode() + bytes(264)


def guano(timestamp: str) -> tuple[bytes, bytes]:
    """GUANO's chunk."""
    return b"guan", f"GUANO|Version: 1.0\nTimestamp: {timestamp}\nNote: å".encode()


def audiomoth(remark: str) -> tuple[bytes, bytes]:
    """AudioMoth's remark."""
    text = remark.encode() + b"\0"
    return b"LIST", b"INFOICMT" + struct.pack("<I", len(text)) + text
