"""From a job's counters to what a person wants to know: how far, how fast, how long still."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ingest.presence import Rate
from ingest.status import Status


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a job's progress. ``left_s`` is None while it cannot be told."""

    status: Status
    items_finished: int
    items_per_s: float
    bytes_per_s: float
    left_s: float | None
    fraction: float | None


@dataclass(slots=True)
class ProgressMeter:
    """Turns the statuses of a job, one after another, into progress."""

    _rate: Rate = field(default_factory=Rate)

    def read(self, status: Status) -> Progress:
        """The progress at this status."""
        counts = status.counts
        finished = counts.done + counts.skipped + counts.failed
        moved_bytes = counts.bytes_done + counts.bytes_failed
        items_per_s, bytes_per_s = self._rate.update(time.monotonic(), finished, moved_bytes)
        left_s = None
        can_tell = status.total_is_final and not status.pause
        if can_tell and counts.bytes_listed and bytes_per_s > 0:
            left_s = max(0, counts.bytes_listed - moved_bytes) / bytes_per_s
        elif can_tell and items_per_s > 0:
            left_s = (status.items_total - finished) / items_per_s
        total = counts.bytes_listed or status.items_total
        part = moved_bytes if counts.bytes_listed else finished
        return Progress(
            status, finished, items_per_s, bytes_per_s, left_s, min(1.0, part / total) if total else None
        )
