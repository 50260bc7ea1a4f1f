"""What a whale tag's log of its audio capture says of the quality of each recording.

The tag's capture program (Project CETI, whale-tag-embedded) appends to ``data_audio_status.csv``: a row before and
after each write of its buffer, and one when the FIFO between converter and processor overflowed, upon which it loses
sound and begins a new file. Times are microseconds since 1970, by the clock that names the recordings too.
"""

from __future__ import annotations

import bisect
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STATUS_LOG = "data_audio_status.csv"
LARGEST_BYTES = 64 << 20
"""A larger log is not read."""

FLAGS = {
    "fifo_overflow": "the FIFO overflowed: sound is lost at its end, or between it and the next",
    "capture_restarted": "the capture program started while it was recorded",
    "write_unfinished": "a write of the buffer was begun, and its end was never noted",
    "status_garbled": "the tag's log of its capture could not be read, or not whole",
    "partial_sample": "the file ends within a sample: the tag stopped while it wrote",
}
"""Every quality flag of a recording, and what it says."""

_MOST_DIGITS = 19
"""Of a time; Python refuses to read thousands of them."""

_TIME, _NOTES, _OVERFLOW, _START, _DONE = (
    "Timestamp [us]",
    "Notes",
    "Overflow",
    "Start Writing",
    "Done Writing",
)


@dataclass(frozen=True, slots=True)
class Status:
    """A row of the log."""

    time_ns: int
    overflow: bool
    restarted: bool
    writing: int
    """1 where a write began, -1 where one ended, else 0."""


@dataclass(frozen=True, slots=True)
class StatusLog:
    """The log's rows in the order of their times; ``garbled`` where some could not be read."""

    rows: Sequence[Status]
    garbled: bool = False

    def flags(self, start_ns: int, end_ns: int | None) -> list[str]:
        """The flags of a recording that began at ``start_ns`` and was followed by another at ``end_ns``, if any."""
        first = bisect.bisect_left(self.rows, start_ns, key=lambda row: row.time_ns)
        last = len(self.rows)
        if end_ns is not None:
            last = bisect.bisect_left(self.rows, end_ns, key=lambda row: row.time_ns)
        rows = self.rows[first:last]
        found = {
            "fifo_overflow": any(row.overflow for row in rows),
            "capture_restarted": any(row.restarted for row in rows),
            "write_unfinished": _write_unfinished(rows),
            "status_garbled": self.garbled,
        }
        return [flag for flag, is_so in found.items() if is_so]


def _write_unfinished(rows: Iterable[Status]) -> bool:
    """Whether a write began, and the next thing that the log says of writes is not its end."""
    under_way = False
    for row in rows:
        if row.writing > 0 and under_way:
            return True
        under_way = row.writing > 0 or (under_way and row.writing == 0)
    return under_way


def read_status_log(text: str) -> StatusLog:
    """The rows of a log."""
    rows, garbled = [], False
    try:
        reader = csv.DictReader(text.splitlines())
        for line in reader:
            row = _row(line)
            garbled = garbled or row is None
            rows += [row] if row is not None else []
        garbled = garbled or not {_TIME, _OVERFLOW} <= set(reader.fieldnames or ())
    except csv.Error:
        garbled = True
    return StatusLog(sorted(rows, key=lambda row: row.time_ns), garbled)


def _row(line: dict[str | None, str | None]) -> Status | None:
    time_us = (line.get(_TIME) or "").strip()
    if not time_us.isascii() or not time_us.isdigit() or len(time_us) > _MOST_DIGITS:
        return None
    writing = _is_set(line.get(_START)) - _is_set(line.get(_DONE))
    restarted = "Restarted" in (line.get(_NOTES) or "")
    return Status(int(time_us) * 1000, _is_set(line.get(_OVERFLOW)), restarted, writing)


def _is_set(value: str | None) -> bool:
    return (value or "").strip() not in ("", "0")
