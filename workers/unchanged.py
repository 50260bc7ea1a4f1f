"""Small files that a listing shows as stored already, compared by the thread that comes upon them.

Nothing is asked of the store, so threads would only wait for one another; unless the source is slow to read.
"""

from __future__ import annotations

import time

from ingest.workers.sending import Sent
from ingest.workers.upload import Task
from ingest.workers.uploader import Uploader

SMALL_BYTES = 256 << 10
"""What is larger is better hashed by several threads."""
MOST_WAITED_S = 0.05
"""A source that was waited for longer, in one batch, is better read by several threads."""


class Unchanged:
    """Settles a batch's unchanged files, as long as its source is quick. Belongs to one thread."""

    def __init__(self, uploader: Uploader) -> None:
        self._uploader = uploader
        self._waited_s = 0.0

    def settled(self, task: Task) -> Sent | None:
        """An upload that has come to its end, as equal bytes are there from before the job; else None.

        Raises:
            SourceMissing, SourceChanged, SourceUnreadable: the file behind it.
        """
        if task.listed is None or task.size_bytes > SMALL_BYTES or self._waited_s > MOST_WAITED_S:
            return None
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        outcome = self._uploader.unchanged(task)
        self._waited_s += time.perf_counter() - began_s - (time.thread_time() - began_cpu_s)
        return None if outcome is None else Sent(None, 0, is_over=True, outcome=outcome)
