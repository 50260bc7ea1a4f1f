"""The headers of MiniSEED records, all at once: where each record lies, whose it is, and when it begins.

The layout is that of the SEED manual 2.4, chapter 8: a fixed header of 48 bytes, then blockettes
(http://www.fdsn.org/pdf/SEEDManual_V2.4.pdf).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import SourceUnreadable

HEADER_BYTES = 48
_DATA, _CONTROL = b"DRQM", b"VAST"
_STEP_BYTES = 128  # records begin on multiples of their length, which is 128 bytes at least
_SEQUENCE = re.compile(rb"[0-9 \0]{6}")
_CODES = re.compile(rb"[A-Za-z0-9-]*")
_MOST_BLOCKETTES = 16
_TICK_NS = 100_000  # the fixed header counts time in 0.1 ms
_CORRECTION_APPLIED = 0x02
_DAY_NS = 86_400_000_000_000

Numbers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Headers:
    """What the records of a file say of themselves; one entry a record, in the file's order.

    Attributes:
        offset: where the record begins, in bytes.
        length: its bytes.
        channel: which of ``channel_ids`` it is of.
        start_ns: the time of its first sample, in nanoseconds since 1970 UTC.
        tick_ns: how exactly that is known.
        samples: how many samples it holds.
        rate_hz: its sample rate; 0 where there is none.
        encoding: SEED's number of its encoding.
        channel_ids: ``NET.STA.LOC.CHA``.
    """

    offset: Numbers
    length: Numbers
    channel: Numbers
    start_ns: Numbers
    tick_ns: Numbers
    samples: Numbers
    rate_hz: NDArray[np.float64]
    encoding: Numbers
    channel_ids: tuple[str, ...]


def read_headers(data: Bytes) -> Headers:
    """The headers of a whole file.

    Raises:
        SourceUnreadable: it is no MiniSEED, or a part of it is no whole record; with where that begins.
    """
    _check_beginning(data[:512].tobytes())
    offsets = _even(data)
    if offsets is None:
        offsets = np.array(_walk(data), np.int64)
    if not len(offsets):
        raise SourceUnreadable("it holds SEED control headers alone, no data")
    return _Parser(data, offsets).headers()


def _check_beginning(beginning: bytes) -> None:
    if not beginning:
        raise SourceUnreadable("the file is empty (0 bytes)")
    text = beginning.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        raise SourceUnreadable("it is an HTML page, no MiniSEED: perhaps a server's error message")
    if text.startswith(b"<?xml"):
        raise SourceUnreadable("it is XML, no MiniSEED")
    if beginning[:3] == b"MS\x03":
        raise SourceUnreadable("it is MiniSEED 3; only version 2 is read")
    if not _is_header(beginning):
        raise SourceUnreadable("it does not begin with a MiniSEED record")


def _is_header(header: bytes) -> bool:
    return (
        len(header) >= 8
        and _SEQUENCE.match(header) is not None
        and header[6:7] in (*map(_one, _DATA + _CONTROL),)
    )


def _one(byte: int) -> bytes:
    return bytes([byte])


def _even(data: Bytes) -> Numbers | None:
    """Where records begin, if all are data records of one length, as they are in almost every file."""
    length = _record_length(data, 0) if data[6] in _DATA else None
    if length is None or len(data) % length:
        return None
    rows = data.reshape(-1, length)
    alike = np.isin(rows[:, 6], list(_DATA)) & (rows[:, 46:48] == rows[0, 46:48]).all(axis=1)
    digits = rows[:, :6]
    alike &= (((digits >= 48) & (digits <= 57)) | (digits == 32) | (digits == 0)).all(axis=1)
    where = _blockette_1000(data, 0)
    alike &= (rows[:, where : where + 2] == rows[0, where : where + 2]).all(axis=1)
    alike &= rows[:, where + 6] == rows[0, where + 6]
    return np.arange(0, len(data), length, dtype=np.int64) if alike.all() else None


def _walk(data: Bytes) -> list[int]:
    """Where data records begin, one after the other; SEED control headers are passed over."""
    offsets, at, size = [], 0, len(data)
    while at < size:
        header = data[at : at + HEADER_BYTES].tobytes()
        if not _is_header(header):
            raise SourceUnreadable(f"bytes {at} to {size - 1} do not begin with a MiniSEED record")
        if header[6] in _CONTROL:
            at = _next_header(data, at)
            continue
        length = _record_length(data, at)
        if length is None:
            raise SourceUnreadable(
                f"the record at byte {at} has no blockette 1000, which says its length and encoding"
            )
        if at + length > size:
            raise SourceUnreadable(
                f"it is truncated: {size - at} bytes of the record at byte {at} are there, of {length}"
            )
        offsets.append(at)
        at += length
    return offsets


def _next_header(data: Bytes, at: int) -> int:
    """Where the next header begins after a control header, whose length is not always written in it."""
    for place in range(at + _STEP_BYTES, len(data), _STEP_BYTES):
        if _is_header(data[place : place + 8].tobytes()):
            return place
    return len(data)


def _order(data: Bytes, at: int) -> Any:
    """The byte order of a header: the one in which its year and day are a date."""
    for order in ("big", "little"):
        year, day = (int.from_bytes(data[at + i : at + i + 2].tobytes(), order) for i in (20, 22))
        if 1900 <= year <= 2200 and 1 <= day <= 366:
            return order
    raise SourceUnreadable(f"the record at byte {at} has no valid date")


def _blockette_1000(data: Bytes, at: int) -> int:
    """Where a record's blockette 1000 begins, from the record's own beginning; 0 where it has none."""
    order = _order(data, at)
    place = int.from_bytes(data[at + 46 : at + 48].tobytes(), order)
    for _ in range(_MOST_BLOCKETTES):
        if not HEADER_BYTES <= place <= len(data) - at - 8:
            return 0
        kind, following = (
            int.from_bytes(data[at + place + i : at + place + i + 2].tobytes(), order) for i in (0, 2)
        )
        if kind == 1000:
            return place
        if following <= place:
            return 0
        place = following
    return 0


def _record_length(data: Bytes, at: int) -> int | None:
    if len(data) - at < HEADER_BYTES:
        return None
    place = _blockette_1000(data, at)
    exponent = int(data[at + place + 6]) if place else 0
    return 1 << exponent if 7 <= exponent <= 20 else None


class _Parser:
    """Takes fields out of many records at once, each in its own byte order."""

    def __init__(self, data: Bytes, offsets: Numbers) -> None:
        self._data = data
        self._offsets = offsets
        year = self._two(">u2", offsets + 20)
        day = self._two(">u2", offsets + 22)
        self._is_big = (year >= 1900) & (year <= 2200) & (day >= 1) & (day <= 366)

    def _raw(self, where: Numbers, count: int) -> Bytes:
        return np.ascontiguousarray(self._data[where[:, None] + np.arange(count)])

    def _two(self, kind: str, where: Numbers) -> Any:
        return self._raw(where, np.dtype(kind).itemsize).view(kind)[:, 0].astype(np.dtype(kind[1:]))

    def _field(self, kind: str, where: Numbers, which: Any = slice(None)) -> Any:
        """Numbers of a kind such as ``u2`` at these places, for the records ``which``."""
        if not len(where):
            return np.zeros(0, np.dtype(kind))
        return np.where(self._is_big[which], self._two(">" + kind, where), self._two("<" + kind, where))

    def headers(self) -> Headers:
        """All of them.

        Raises:
            SourceUnreadable: a time, a code or a blockette makes no sense.
        """
        at = self._offsets
        channel, names = self._channels()
        start_ns = self._start_ns()
        rate = _rate(self._field("i2", at + 32).astype(float), self._field("i2", at + 34).astype(float))
        tick_ns = np.full(len(at), _TICK_NS, np.int64)
        encoding = np.full(len(at), -1, np.int64)
        length = np.zeros(len(at), np.int64)
        for which, kind, place in self._blockettes():
            of = kind == 1000
            encoding[which[of]] = self._data[place[of] + 4]
            length[which[of]] = 1 << self._data[place[of] + 6].astype(np.int64).clip(0, 20)
            of = kind == 1001
            start_ns[which[of]] += self._data[place[of] + 5].view(np.int8).astype(np.int64) * 1000
            tick_ns[which[of]] = 1000
            of = kind == 100
            rate[which[of]] = np.abs(self._field("f4", place[of] + 4, which[of]).astype(float))
        return Headers(
            offset=at,
            length=length,
            channel=channel,
            start_ns=start_ns,
            tick_ns=tick_ns,
            samples=self._field("u2", at + 30).astype(np.int64),
            rate_hz=rate,
            encoding=encoding,
            channel_ids=names,
        )

    def _channels(self) -> tuple[Numbers, tuple[str, ...]]:
        codes = self._raw(self._offsets + 8, 12).view("S12")[:, 0]
        # view("S12") drops NULs at the end, which stand for spaces in some files
        found, which = np.unique(codes, return_inverse=True)
        return which.astype(np.int64), tuple(map(_channel_id, found))

    def _start_ns(self) -> Numbers:
        at = self._offsets
        year, day = (self._field("u2", at + i).astype(np.int64) for i in (20, 22))
        hour, minute, second = (self._data[at + i].astype(np.int64) for i in (24, 25, 26))
        tick = self._field("u2", at + 28).astype(np.int64)
        valid = (year >= 1900) & (year <= 2200) & (day >= 1) & (day <= 366)
        valid &= (hour < 24) & (minute < 60) & (second <= 60) & (tick < 10_000)
        if not valid.all():
            raise SourceUnreadable(f"the record at byte {at[int(np.argmin(valid))]} has no valid time")
        years = (year - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
        start_ns: Numbers = (years + day - 1) * _DAY_NS
        start_ns += (hour * 3600 + minute * 60 + second) * 1_000_000_000 + tick * _TICK_NS
        is_applied = (self._data[at + 36] & _CORRECTION_APPLIED) != 0
        return start_ns + np.where(is_applied, 0, self._field("i4", at + 40).astype(np.int64) * _TICK_NS)

    def _blockettes(self) -> Any:
        """Blockettes by their turn in each record: (which records, their kinds, their places in the file)."""
        which = np.arange(len(self._offsets))
        place = self._field("u2", self._offsets + 46).astype(np.int64)
        for _ in range(_MOST_BLOCKETTES):
            inside = (place >= HEADER_BYTES) & (self._offsets[which] + place + 8 <= len(self._data))
            which, place = which[inside], place[inside]
            if not len(which):
                return
            where = self._offsets[which] + place
            yield which, self._field("u2", where, which), where
            following = self._field("u2", where + 2, which).astype(np.int64)
            onward = following > place
            which, place = which[onward], following[onward]


def _channel_id(codes: bytes) -> str:
    """``NET.STA.LOC.CHA`` from a header's station, location, channel and network; they become parts of keys."""
    codes = codes.ljust(12).replace(b"\0", b" ")
    parts = [codes[a:b].strip() for a, b in ((10, 12), (0, 5), (5, 7), (7, 10))]
    if not all(_CODES.fullmatch(part) for part in parts):
        raise SourceUnreadable(f"its station and channel are no letters and digits: {b'.'.join(parts)!r}")
    return b".".join(parts).decode("ascii")


def _rate(factor: Any, multiplier: Any) -> NDArray[np.float64]:
    """The sample rate from a header's factor and multiplier: negative ones divide."""
    with np.errstate(divide="ignore", invalid="ignore"):
        base = np.where(factor > 0, factor, -1 / factor)
        rate = np.where(multiplier > 0, base * multiplier, np.where(multiplier < 0, -base / multiplier, base))
    return np.where((factor == 0) | ~np.isfinite(rate), 0.0, np.abs(rate))
