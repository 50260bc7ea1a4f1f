"""When a picture, a film or a recording was made, as the file itself says. What it does not say stays unknown."""

from __future__ import annotations

import io
import logging
import re
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import ExifTags, Image

from ingest.errors import SourceUnreadable
from ingest.plugins.image_decode import deliberate_limit

log = logging.getLogger(__name__)

MOST_PIECES = 10_000
"""Atoms or chunks looked at in a file; one that has more is garbled."""
MOST_TEXT_BYTES = 1 << 20
MOST_PIXELS = 1 << 40  # none is decoded
_MAC_EPOCH = datetime(1904, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_EXIF_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")
_BEXT_TIME = re.compile(r"(\d{4})[-_:. /](\d\d)[-_:. /](\d\d)(\d\d)[-_:. ](\d\d)[-_:. ](\d\d)")
_AUDIOMOTH = re.compile(
    r"Recorded at (\d\d):(\d\d):(\d\d)(?:\.(\d{3}))? (\d\d)/(\d\d)/(\d{4}) \(UTC(?:([+-])(\d{1,2})(?::(\d\d))?)?\)"
)
_EXIF_STARTS = (b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"\x89PNG\r\n\x1a\n")
_FILM_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


class Captured(NamedTuple):
    """When something was recorded.

    Attributes:
        at: ISO 8601: in UTC with a ``Z`` at its end, or the recorder's local time without a zone where it names none.
        by: where that stands: ``exif``, ``mvhd`` (MP4 and QuickTime), ``guano``, ``bext`` or ``audiomoth`` (WAV).
    """

    at: str
    by: str


def captured(path: Path) -> Captured | None:
    """When the file at ``path`` was recorded, or None where it does not say, is of another kind, or is garbled.

    The kind is told by the first bytes, not by the name. Nothing is guessed: not from the name, not from the file's
    own times. An MP4's time is UTC by ISO 14496-12, though some cameras write their local time there.

    Raises:
        SourceUnreadable: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(12)
            if start.startswith(_EXIF_STARTS) or (start[:4], start[8:]) == (b"RIFF", b"WEBP"):
                return _of_picture(file)
            if start[:4] in (b"RIFF", b"RF64") and start[8:] == b"WAVE":
                return _of_sound(file)
            if start[4:8] in _FILM_ATOMS:
                return _of_film(file)
    except OSError as error:
        raise SourceUnreadable(f"{str(path)!r} cannot be read: {error.strerror}") from error
    return None


def _of_picture(file: BinaryIO) -> Captured | None:
    """By EXIF: when it was taken, else when it was digitized. EXIF's DateTime is when the file was changed."""
    try:
        exif = _exif(file)
    except Exception as error:  # noqa: BLE001 - whatever Pillow raises at a garbled file
        log.info("no EXIF in %s: %r", file.name, error)
        return None
    base = ExifTags.Base
    for time, fraction, offset in (
        (base.DateTimeOriginal, base.SubsecTimeOriginal, base.OffsetTimeOriginal),
        (base.DateTimeDigitized, base.SubsecTimeDigitized, base.OffsetTimeDigitized),
    ):
        found = _EXIF_TIME.fullmatch(_text(exif.get(time)))
        at = found and _moment(*map(int, found.groups()))
        if at:
            return Captured(_iso(at, _text(exif.get(fraction)), _text(exif.get(offset))), "exif")
    return None


def _exif(file: BinaryIO) -> Mapping[int, object]:
    file.seek(0)
    with deliberate_limit(MOST_PIXELS), Image.open(file) as picture:
        return dict(picture.getexif().get_ifd(ExifTags.IFD.Exif))


def _text(value: object) -> str:
    return value.strip("\0 ") if isinstance(value, str) else ""


def _moment(year: int, month: int, day: int, hour: int, minute: int, second: int) -> datetime | None:
    """The moment, or None where a calendar has no such one: cameras without a clock write zeros."""
    try:
        return datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None


def _iso(at: datetime, fraction: str = "", offset: str = "") -> str:
    """ISO 8601: in UTC where the offset from it is known, else as it is."""
    shift = _OFFSET.fullmatch(offset)
    if shift:
        sign, hours, minutes = shift.groups()
        ahead = timedelta(hours=int(hours), minutes=int(minutes))
        at = at - ahead if sign == "+" else at + ahead
    return (
        f"{at:%Y-%m-%dT%H:%M:%S}" + (f".{fraction}" if fraction.isdecimal() else "") + ("Z" if shift else "")
    )


def _of_film(file: BinaryIO) -> Captured | None:
    """By the creation time of the movie header (ISO 14496-12, 8.2.2): seconds since 1904 UTC, or 0 for unknown."""
    for kind, size_bytes in _pieces(file, 0, _end(file), ">"):
        if kind != b"moov":
            continue
        begin = file.tell()
        for inner, _ in _pieces(file, begin, begin + size_bytes, ">"):
            if inner == b"mvhd":
                return _by_header(file.read(12))
        return None
    return None


def _by_header(header: bytes) -> Captured | None:
    if len(header) < 12:
        return None
    seconds = int.from_bytes(header[4:12] if header[0] == 1 else header[4:8], "big")
    try:
        at = _MAC_EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
    return Captured(f"{at:%Y-%m-%dT%H:%M:%S}Z", "mvhd") if at > _EARLIEST else None


def _of_sound(file: BinaryIO) -> Captured | None:
    """By GUANO's Timestamp, else a Broadcast Wave's origination (EBU Tech 3285), else AudioMoth's remark."""
    found: dict[str, Captured] = {}
    for kind, size_bytes in _pieces(file, 12, _end(file), "<"):
        if kind in (b"guan", b"bext", b"LIST"):
            text = file.read(min(size_bytes, MOST_TEXT_BYTES))
            captured = _by_guano(text) if kind == b"guan" else _by_bext(text) if kind == b"bext" else None
            captured = captured or (_by_remark(text) if kind == b"LIST" else None)
            if captured:
                found.setdefault(captured.by, captured)
    return next((found[by] for by in ("guano", "bext", "audiomoth") if by in found), None)


def _by_guano(text: bytes) -> Captured | None:
    for line in text.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "Timestamp":
            try:
                at = datetime.fromisoformat(value.strip())
            except ValueError:
                return None
            zone = "Z" if at.tzinfo else ""
            at = at.astimezone(UTC) if at.tzinfo else at
            return Captured(at.replace(tzinfo=None).isoformat() + zone, "guano")
    return None


def _by_bext(text: bytes) -> Captured | None:
    found = _BEXT_TIME.fullmatch(text[320:338].decode("ascii", "replace"))
    at = found and _moment(*map(int, found.groups()))
    return Captured(_iso(at), "bext") if at else None


def _by_remark(text: bytes) -> Captured | None:
    found = _AUDIOMOTH.search(text.decode("ascii", "replace"))
    if not found:
        return None
    hour, minute, second, fraction, day, month, year, sign, hours, minutes = found.groups()
    at = _moment(int(year), int(month), int(day), int(hour), int(minute), int(second))
    offset = f"{sign or '+'}{int(hours or 0):02}:{int(minutes or 0):02}"
    return Captured(_iso(at, fraction or "", offset), "audiomoth") if at else None


def _end(file: BinaryIO) -> int:
    return file.seek(0, io.SEEK_END)


def _pieces(file: BinaryIO, begin: int, end: int, order: str) -> Iterator[tuple[bytes, int]]:
    """Kind and content size in bytes of the pieces between two offsets: atoms (``>``), or chunks of RIFF (``<``).

    The file stands at a piece's content when it is given.
    """
    for _ in range(MOST_PIECES):
        if end - begin < 8:
            return
        file.seek(begin)
        head = file.read(8)
        if len(head) < 8:
            return
        kind, size_bytes, content = (
            _atom(file, head, begin, end)
            if order == ">"
            else (head[:4], struct.unpack("<I", head[4:])[0], begin + 8)
        )
        if size_bytes < 0 or (order == ">" and content + size_bytes > end):
            return
        yield kind, min(size_bytes, end - content)
        begin = content + size_bytes + (size_bytes & 1 if order == "<" else 0)


def _atom(file: BinaryIO, head: bytes, begin: int, end: int) -> tuple[bytes, int, int]:
    """Kind, content size and where the content begins; a size of 1 stands for a longer one, 0 for all that is left."""
    size_bytes, kind = struct.unpack(">I4s", head)
    if size_bytes == 1:
        longer = file.read(8)
        return kind, int.from_bytes(longer, "big") - 16, begin + 16
    return kind, (end - begin if size_bytes == 0 else size_bytes) - 8, begin + 8
