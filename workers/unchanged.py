"""Files that are stored already: what a listing alone settles, in the thread that comes upon them.

Nothing is asked of the store, so threads would only wait for one another; unless the source is slow to read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from ingest.workers.known_files import FileState, KnownFiles
from ingest.workers.sending import Sent
from ingest.workers.upload import Outcome, Task
from ingest.workers.uploader import Uploader

SMALL_BYTES = 256 << 10
"""What is larger is better hashed by several threads."""
MOST_WAITED_S = 0.05
"""A source that was waited for longer, in one batch, is better read by several threads."""


class Unchanged:
    """Settles a batch's unchanged files. Belongs to one thread.

    Small ones are read and compared, as long as their source is quick.

    Args:
        known_files: what is known of files that need not be read again; None where all are to be read.
    """

    def __init__(self, uploader: Uploader, known_files: KnownFiles | None) -> None:
        self._uploader = uploader
        self._known_files = known_files
        self._read: dict[str, FileState] = {}
        self._waited_s = 0.0

    def state(self, source: str, path: Path) -> FileState | None:
        """What a file is to be known again by; None where it is but a copy of its source, or all are to be read.

        Raises:
            SourceMissing, SourceUnreadable: it cannot be looked at.
        """
        return FileState.of(source) if self._known_files is not None and str(path) == source else None

    def settled(self, task: Task) -> Sent | None:
        """An upload that has come to its end, as equal bytes are there from before the job; else None.

        Raises:
            SourceMissing, SourceChanged, SourceUnreadable: the file behind it.
        """
        outcome = self._unread(task) or self._compared(task)
        return None if outcome is None else Sent(None, 0, is_over=True, outcome=outcome)

    def note(self, outcomes: Iterable[Outcome]) -> None:
        """An item's uploads came to this: what was read for them is known from now on."""
        if self._known_files is None:
            return
        for outcome in outcomes:
            state = self._read.pop(outcome.key, None)
            known = self._uploader.known(outcome) if state is not None else None
            if state is not None and known is not None:
                self._known_files.note(state, known)

    def save(self) -> None:
        """Keep what was noted."""
        if self._known_files is not None:
            self._known_files.save()

    def _unread(self, task: Task) -> Outcome | None:
        if self._known_files is None or task.state is None:
            return None
        known = self._known_files.find(task.state) if task.listed is not None else None
        if known is not None and task.state.size_bytes == task.size_bytes:
            outcome = self._uploader.unread(task, known)
            if outcome is not None:
                return outcome
        self._read[task.key] = task.state
        return None

    def _compared(self, task: Task) -> Outcome | None:
        if task.listed is None or task.size_bytes > SMALL_BYTES or self._waited_s > MOST_WAITED_S:
            return None
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        outcome = self._uploader.unchanged(task)
        self._waited_s += time.perf_counter() - began_s - (time.thread_time() - began_cpu_s)
        return outcome
