"""Repeating what failed for a passing fault."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from tenacity import (
    Retrying,
    retry,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from ingest.errors import ChecksumMismatch, StoreError, StoreRefused, StoreUnreachable
from ingest.stores.base import ObjectInfo, Store, never
from ingest.stores.wrapping import WrappedStore

PASSING = (StoreUnreachable, ChecksumMismatch)
"""What may be different the next time."""
LONGEST_WAIT_S = 15
NAP_S = 0.2


def _answered_later(error: BaseException) -> bool:
    return isinstance(error, StoreUnreachable) and error.status is not None


where_answered_later = retry(
    stop=stop_after_attempt(4),
    wait=wait_random_exponential(multiplier=0.3, max=3),
    retry=retry_if_exception(_answered_later),
    reraise=True,
)
"""Repeats what a person waits for: a few seconds where a server says "later", not at all where there is none."""

Answer = TypeVar("Answer")


class RetryingStore(WrappedStore):
    """Repeats a call up to ``retries`` times, at growing random intervals, then raises the last error.

    Where it is refused, it is repeated once if there are other credentials by now.
    A server that says for how long it wants to be left alone (Retry-After) is, by all threads.
    ``check`` is called five times a second while it waits, and interrupts by raising. :meth:`probe` repeats
    by itself what it must.

    A put with ``if_absent`` whose answer was lost may find its own object when it is repeated, and then
    raises ObjectExists: compare what is there.
    """

    def __init__(
        self, store: Store, retries: int, check: Callable[[], None] = never, *, first_wait_s: float = 0.5
    ) -> None:
        super().__init__(store)
        self._retries = retries
        self._check = check
        self._first_wait_s = first_wait_s
        self._left_alone_until_s = 0.0

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Store.list`. A repeat goes on after the last key."""
        pages = self._store.list(prefix, after=after)
        while True:
            try:
                found = next(pages, None)
            except PASSING as error:
                go_on = partial(self._store.list, prefix, after=after)
                pages, found = self._again(error, partial(_begun_by, go_on))
            if found is None:
                return
            after = found.key
            yield found

    def read(self, key: str) -> Iterator[bytes]:
        """See :meth:`Store.read`. Repeated only before its first piece: later the object may be another."""
        pieces, first = self._do(lambda: _begun_by(partial(self._store.read, key)))
        if first is not None:
            yield first
            yield from pieces

    def _do(self, call: Callable[[], Answer]) -> Answer:
        try:
            return self._call(call)
        except PASSING as error:
            return self._again(error, call)

    def _call(self, call: Callable[[], Answer]) -> Answer:
        left_s = self._left_alone_until_s - time.monotonic()
        if left_s > 0:
            self._wait(left_s * random.uniform(1.0, 1.1))
        try:
            return call()
        except StoreRefused:
            if not self._store.renew_credentials():
                raise
            return call()
        except StoreUnreachable as error:
            if error.retry_after_s:
                until_s = time.monotonic() + error.retry_after_s
                self._left_alone_until_s = max(self._left_alone_until_s, until_s)
            raise

    def _again(self, error: StoreError, call: Callable[[], Answer]) -> Answer:
        failed = [error]

        def attempt() -> Answer:
            if failed:
                raise failed.pop()
            return self._call(call)

        retrying = Retrying(
            stop=stop_after_attempt(self._retries + 1),
            wait=wait_random_exponential(multiplier=self._first_wait_s, max=LONGEST_WAIT_S),
            retry=retry_if_exception_type(PASSING),
            sleep=self._wait,
            reraise=True,
        )
        return retrying(attempt)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left, NAP_S))
        self._check()


def _begun_by(begin: Callable[[], Iterator[Answer]]) -> tuple[Iterator[Answer], Answer | None]:
    """An iterator whose first element has been taken, and that element."""
    pieces = begin()
    return pieces, next(pieces, None)
