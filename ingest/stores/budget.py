"""A limit on the bytes that a process holds for its uploads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class BytesBudget:
    """Lets at most ``limit_bytes`` be held at once; what is larger than the limit passes alone."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._freed = threading.Condition()

    @contextmanager
    def held(self, size_bytes: int, check: Callable[[], None]) -> Iterator[None]:
        """Hold ``size_bytes`` while in the context. ``check`` is called while waiting, and may raise."""
        self.acquire(size_bytes, check)
        try:
            yield
        finally:
            self.release(size_bytes)

    def acquire(self, size_bytes: int, check: Callable[[], None]) -> None:
        """Wait until there is room, then hold ``size_bytes``."""
        size_bytes = min(size_bytes, self._limit_bytes)
        with self._freed:
            while self._held_bytes + size_bytes > self._limit_bytes:
                check()
                self._freed.wait(0.5)
            self._held_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Give ``size_bytes`` back."""
        with self._freed:
            self._held_bytes -= min(size_bytes, self._limit_bytes)
            self._freed.notify_all()
