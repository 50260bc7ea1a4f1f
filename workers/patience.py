"""Waiting for what will be back: a store that is down or refuses, a Redis that is away."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ingest.digests import hashed
from ingest.errors import (
    MAY_BE_OURS,
    ClockWrong,
    ItemError,
    ObjectExists,
    ObjectMissing,
    ProcessSpent,
    RedisError,
    RedisFull,
    RedisUnreachable,
    StoreError,
    StoreRefused,
)
from ingest.news import News
from ingest.stores.base import Store, Stored
from ingest.stores.wrapping import WrappedStore
from ingest.workers.descriptors import spent
from ingest.workers.single_keys import fault_of_key, may_be_its_own
from ingest.workers.watch import Watch

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
SAY_AGAIN_S = 5.0
GIVE_BACK_AFTER_S = 10.0
"""What may be this machine's trouble alone is waited for so long: then others are to have the batch."""
COMES_THROUGH = (ObjectExists, ObjectMissing, ClockWrong, ProcessSpent)


def backoff_s(attempt: int, longest_s: float = LONGEST_WAIT_S) -> float:
    """Seconds to wait before the next try: doubling, with full jitter above half."""
    step_s = min(longest_s, FIRST_WAIT_S * 2.0 ** min(attempt, 16))
    return step_s * random.uniform(0.5, 1.0)


class PatientStore(WrappedStore):
    """A store that never gives up: while it is down, the whole job waits and says why.

    Where it refuses, or is not there, this node waits and others try for themselves; after a while the refusal comes
    through, so that the batch goes back to the queue and another node can take it.

    Else only what an item causes comes through: :class:`ObjectExists`, :class:`ObjectMissing` and item errors; and
    :class:`ClockWrong` and :class:`ProcessSpent`, which are this machine's trouble alone.

    Args:
        store: the store, which has its own retries for passing faults.
        watch: says when to stop, and when others wait.
        pause: tells why this node waits, and whether all are to.
        go_on: ends that.
        clock_trouble: what is wrong with this machine's clock, or "".
    """

    def __init__(
        self,
        store: Store,
        watch: Watch,
        pause: Callable[[str, bool], None],
        go_on: Callable[[], None],
        clock_trouble: Callable[[], str] = lambda: "",
    ) -> None:
        super().__init__(store)
        self._clock_trouble = clock_trouble
        self._watch = watch
        self._pause = pause
        self._go_on = go_on
        self._news = News()

    def _do_put(self, key: str, put: Callable[[], Stored]) -> Stored:
        """A key that this store does not take, though it takes others, is its item's fault."""
        return self._do(lambda: self._one(key, put))

    def _one(self, key: str, put: Callable[[], Stored]) -> Stored:
        """Try a put, and once more where its answer seems to be about its key alone: it may have been a slip."""
        try:
            return put()
        except StoreError as error:
            if self._fault(key, error) is None:
                raise _waited_for(error) from None
        try:
            return put()
        except StoreError as error:
            raise self._fault(key, error) or _waited_for(error) from error

    def _fault(self, key: str, error: StoreError) -> ItemError | None:
        return fault_of_key(self._store, key, error) if may_be_its_own(error) else None

    def sha256(self, key: str) -> str | None:
        """The SHA-256 of an object that has none recorded, by reading it back; None where there is no object."""
        return self._do(lambda: self._hash(key))

    def _hash(self, key: str) -> str | None:
        try:
            return hashed(self._store.read(key), self._watch.check)[0]
        except ObjectMissing:
            return None

    def _do(self, call: Callable[[], T]) -> T:
        self._watch.wait_while_paused()
        try:
            return call()
        except COMES_THROUGH:
            raise
        except StoreError as error:
            self._raise_if_ours(error)
            return self._wait_for(call, error)

    def _raise_if_ours(self, error: StoreError) -> None:
        """A refusal may come without a word of its reason (an answer to HEAD has no body)."""
        if process_spent := spent():
            raise process_spent from error
        if isinstance(error, StoreRefused):
            with suppress(RedisError):
                if trouble := self._clock_trouble():
                    raise ClockWrong(trouble) from error

    def _wait_for(self, call: Callable[[], T], error: StoreError) -> T:
        attempt, began_s = 0, time.monotonic()
        while True:
            if self._news.is_new(error.what):
                log.warning("waiting for the destination: %s", error.what)
            if isinstance(error, MAY_BE_OURS) and time.monotonic() - began_s > GIVE_BACK_AFTER_S:
                raise error
            self._sleep(backoff_s(attempt), error)
            attempt += 1
            try:
                result = call()
            except COMES_THROUGH:
                self._quietly(self._go_on)
                raise
            except StoreError as again:
                self._raise_if_ours(again)
                error = again
            else:
                self._quietly(self._go_on)
                return result

    def _sleep(self, seconds: float, error: StoreError) -> None:
        """Wait, telling the other nodes again and again, as the pause runs out by itself."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            self._quietly(lambda: self._pause(error.what, not isinstance(error, MAY_BE_OURS)))
            self._watch.sleep(min(left_s, SAY_AGAIN_S))

    @staticmethod
    def _quietly(say: Callable[[], None]) -> None:
        """Telling others is a courtesy: Redis may be away too, and what matters is this store."""
        try:
            say()
        except (RedisUnreachable, RedisFull) as error:
            log.debug("could not tell the other nodes: %s", error.what)


def _waited_for(error: StoreError) -> StoreError:
    """Nothing can be missing where something is stored: that answer is the server's trouble."""
    return StoreError(error.what, hint=error.hint) if isinstance(error, ObjectMissing) else error


def patiently(operation: Callable[[], T], patience_s: float, check: Callable[[], None] = lambda: None) -> T:
    """The result of an operation on Redis that may be repeated, waiting for Redis to be back.

    Raises:
        RedisUnreachable, RedisFull: it was not back within ``patience_s``.
        Stopped: raised by ``check``.
    """
    give_up_s = time.monotonic() + patience_s
    attempt = 0
    while True:
        try:
            return operation()
        except (RedisUnreachable, RedisFull) as error:
            if time.monotonic() > give_up_s:
                raise
            log.warning("waiting for Redis: %s", error.what)
            time.sleep(backoff_s(attempt, longest_s=5.0))
            attempt += 1
            check()
