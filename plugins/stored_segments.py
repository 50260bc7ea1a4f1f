"""A job's pictures and clips put back together as segments of sound, hour by hour, in bounded memory."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest.processors import Result

KINDS = ("picture", "clip")
ROWS_HELD = 20_000


@dataclass(slots=True)
class Segment:
    """A stretch of sound: its picture, its clip, or both.

    Attributes:
        start: when it starts, in UTC.
        stem: what the keys of its picture and clip have in common: all but the suffix.
        suffixes: the suffix of each kind that is there, such as ``{"picture": ".png", "clip": ".wav"}``.
        facts: the metadata of its uploads, the picture's before the clip's.
    """

    start: datetime
    stem: str
    suffixes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


def split_suffix(key: str) -> tuple[str, str]:
    """A key without its suffix, and the suffix with its dot (empty where there is none)."""
    name_start = key.rfind("/") + 1
    dot = key.rfind(".")
    return (key[:dot], key[dot:]) if dot > name_start else (key, "")


def utc_start(text: str) -> datetime | None:
    """The time that a metadata value ``start`` names; None where it names none, or has no zone."""
    try:
        start = datetime.fromisoformat(text)
    except ValueError:
        return None
    return start.astimezone(UTC) if start.tzinfo else None


class SegmentHours:
    """Sorts manifest rows by the UTC hour in which their segments start, through files in a scratch folder.

    Memory holds ``ROWS_HELD`` rows while sorting, and one hour's while reading.

    Attributes:
        left_out: rows that are no picture or clip with a start, counted by what is missing.
    """

    def __init__(self, rows: Iterable[Result], scratch_dir: Path) -> None:
        scratch_dir.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix="segments-", dir=scratch_dir)
        self._waiting: dict[str, list[str]] = defaultdict(list)
        self._hours: set[str] = set()
        self.left_out: Counter[str] = Counter()
        held = 0
        for row in rows:
            held += self._sort(row)
            if held >= ROWS_HELD:
                self._spill()
                held = 0
        self._spill()

    def __enter__(self) -> SegmentHours:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def _sort(self, row: Result) -> int:
        kind, start = row.metadata.get("kind", ""), utc_start(row.metadata.get("start", ""))
        if kind not in KINDS:
            self.left_out["other objects"] += 1
            return 0
        if start is None:
            self.left_out["without a start"] += 1
            return 0
        line = json.dumps([start.isoformat(), kind, row.key, dict(row.metadata)])
        self._waiting[f"{start:%Y-%m-%dT%H}"].append(line)
        return 1

    def _spill(self) -> None:
        for hour, lines in self._waiting.items():
            with self._path(hour).open("a", encoding="ascii") as file:
                file.writelines(line + "\n" for line in lines)
            self._hours.add(hour)
        self._waiting.clear()

    def _path(self, hour: str) -> Path:
        return Path(self._folder.name, hour)

    def __iter__(self) -> Iterator[tuple[str, list[Segment]]]:
        """Each hour that has segments, as ``2019-01-12T15``, in order, with its segments by start and key."""
        for hour in sorted(self._hours):
            by_stem: dict[str, Segment] = {}
            with self._path(hour).open(encoding="ascii") as file:
                for line in file:
                    _join(by_stem, json.loads(line))
            yield hour, sorted(by_stem.values(), key=lambda segment: (segment.start, segment.stem))


def _join(by_stem: dict[str, Segment], row: list[Any]) -> None:
    start, kind, key, metadata = row
    stem, suffix = split_suffix(key)
    segment = by_stem.setdefault(stem, Segment(datetime.fromisoformat(start), stem))
    segment.suffixes[kind] = suffix
    segment.facts = {**segment.facts, **metadata} if kind == "picture" else {**metadata, **segment.facts}
