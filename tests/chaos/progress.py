"""Watches a job from outside, to find the longest time in which nothing went on."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import Self

from ingest.errors import RedisError
from ingest.job import Job
from tests.chaos.s3_proxy import Seen

LOOK_EVERY_S = 0.2


class ProgressWatch:
    """Notes when a batch was counted; together with what the store took that is all progress there is."""

    def __init__(self, job: Job, seen: Seen) -> None:
        self._job = job
        self._seen = seen
        self._counted_s: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the watch."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        committed = -1
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                _, counts, _ = self._job.ledger.snapshot()
            except RedisError:
                continue  # it is one of the faults
            if counts.committed != committed:
                committed = counts.committed
                self._counted_s.append(time.monotonic())

    def longest_gap(self) -> tuple[float, float]:
        """The longest time between two steps of progress: when it began, and how many seconds it took."""
        steps = sorted([*self._counted_s, *self._seen.stored_s])
        gaps = [(later - earlier, earlier) for earlier, later in pairwise(steps)]
        gap_s, began_s = max(gaps, default=(0.0, 0.0))
        return began_s, gap_s
