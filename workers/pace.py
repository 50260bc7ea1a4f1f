"""How many threads a process's uploads are worth: those that wait for a store need many, those that compute only few.

Each thread waits for the interpreter in its turn, and wakes others up: with a store that answers at once, many of them
cost more than they give.
"""

from __future__ import annotations

import math
import time

SMALL_BYTES = 2 << 20
"""The time that a larger upload takes says more of the network's width than of the waiting; it has all threads."""
LEAST_THREADS = 4
LEAST_COMPUTED_S = 1e-6  # a clock of little resolution may see none


class Pace:
    """Learns from each batch how many threads the next one is worth. Belongs to one thread.

    By Little's law as many uploads are under way as begin while one waits. As many begin as the process has time to
    compute; as long as one waits as the quickest of a batch took, which had to wait for no other. Twice as many are
    allowed.

    Attributes:
        threads: how many to use now.

    Args:
        most: threads that there may be.
    """

    def __init__(self, most: int) -> None:
        self.threads = min(most, LEAST_THREADS)
        self._most = most
        self._began_s = 0.0
        self._quickest_s = math.inf
        self._stored = 0
        self._are_small = True

    def begin(self) -> None:
        """A batch begins."""
        self._began_s = time.process_time()
        self._quickest_s, self._stored, self._are_small = math.inf, 0, True

    def stored(self, size_bytes: int, took_s: float) -> None:
        """An upload was stored, and a thread had it for so long."""
        self._stored += 1
        self._quickest_s = min(self._quickest_s, took_s)
        if size_bytes > SMALL_BYTES:
            self._are_small = False
            self.threads = self._most

    def end(self) -> None:
        """The batch has ended."""
        if self._stored and self._are_small:
            computed_s = (time.process_time() - self._began_s) / self._stored
            worth = math.ceil(2 * self._quickest_s / max(computed_s, LEAST_COMPUTED_S))
            self.threads = min(self._most, max(LEAST_THREADS, worth))
