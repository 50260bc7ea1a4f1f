"""Limits on what goes to a store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock

from ingest.stores.base import ObjectMeta, Store, Stored, Transfer, never
from ingest.stores.wrapping import WrappedStore

NAP_S = 0.2


class Bandwidth:
    """A bucket of tokens, one a byte, filled at ``bytes_per_s`` and holding one second's worth.

    A taker may overdraw it, and then waits until it is level again: so a body larger than the bucket passes,
    at the rate. Any thread may take.
    """

    def __init__(self, bytes_per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._level = float(bytes_per_s)
        self._filled_at = clock()
        self._lock = Lock()

    def take(self, size_bytes: int, check: Callable[[], None]) -> None:
        """Take ``size_bytes`` and wait for them; ``check`` is called meanwhile, and interrupts by raising."""
        until = self._clock() + self._overdrawn_s(size_bytes)
        while (left := until - self._clock()) > 0:
            check()
            time.sleep(min(left, NAP_S))

    def _overdrawn_s(self, size_bytes: int) -> float:
        with self._lock:
            now = self._clock()
            self._level = min(self._level + (now - self._filled_at) * self._bytes_per_s, self._bytes_per_s)
            self._filled_at = now
            self._level -= size_bytes
            return max(-self._level / self._bytes_per_s, 0.0)


class LimitedStore(WrappedStore):
    """Sends at most ``bytes_per_s``, over all threads; what is read is not counted.

    Args:
        check: called while a put waits (a large file's own ``transfer.check`` is called too).
    """

    def __init__(self, store: Store, bytes_per_s: int, check: Callable[[], None] = never) -> None:
        super().__init__(store)
        self._bandwidth = Bandwidth(bytes_per_s)
        self._check = check

    def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
        """See :meth:`Store.put`."""
        self._bandwidth.take(len(body), self._check)
        return super().put(key, body, meta, if_absent=if_absent)

    def put_file(
        self,
        key: str,
        path: Path,
        meta: ObjectMeta,
        *,
        if_absent: bool = False,
        transfer: Transfer | None = None,
    ) -> Stored:
        """See :meth:`Store.put_file`. Parts that are there already are not counted."""
        given = transfer or Transfer(check=self._check)

        def pace(size_bytes: int) -> None:
            given.pace(size_bytes)
            self._bandwidth.take(size_bytes, given.check)

        return super().put_file(key, path, meta, if_absent=if_absent, transfer=replace(given, pace=pace))
