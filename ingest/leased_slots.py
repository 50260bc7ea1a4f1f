"""Limits over all nodes of a job: slots that are leases in Redis, by its clock; a dead holder's come free."""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from ingest.errors import RedisError, RedisFull, RedisUnreachable
from ingest.ledger import Ledger, scripts
from ingest.redis_client import redis_errors
from ingest.stores.base import never

log = logging.getLogger(__name__)

SLOT_TTL_S = 15.0
FIRST_WAIT_S = 0.02
LONGEST_WAIT_S = 0.25


class LeasedSlots:
    """A job's :class:`ingest.processors.Slots`. May be used from many threads, of a process that does not fork then.

    A slot is a lease that a thread of this process renews every third of its time. Where Redis is away for longer
    than a lease lasts, or this process stands still for so long, another may take the slot: it is a courtesy to a
    server, and no lock on data.

    Args:
        check: called while waiting; raises to interrupt.
        patience_s: how long to wait for a Redis that is away.
        waiting: a context to wait in, which may note that.
    """

    def __init__(
        self,
        ledger: Ledger,
        check: Callable[[], None] = never,
        patience_s: float = 0.0,
        ttl_s: float = SLOT_TTL_S,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._ledger = ledger
        self._check = check
        self._patience_s = patience_s
        self._ttl_s = ttl_s
        self._waiting = waiting
        self._take = ledger.client.register_script(scripts.TAKE_SLOT)
        self._held: dict[str, str] = {}  # token → the key of its slots
        self._changed = threading.Condition()
        self._renews = False

    @contextmanager
    def take(self, name: str, at_once: int) -> Iterator[None]:
        """See :meth:`ingest.processors.Slots.take`.

        Raises:
            Stopped: raised by ``check``.
            RedisError: Redis refuses, or has been away for longer than this node is patient.
        """
        key, token = self._ledger.key(f"slots:{name}"), secrets.token_hex(8)
        with self._waiting():
            self._wait(key, token, at_once)
        with self._changed:
            self._held[token] = key
            self._renew_from_now_on()
        try:
            yield
        finally:
            with self._changed:
                del self._held[token]
                self._changed.notify_all()
            try:
                with redis_errors(self._ledger.url):
                    self._ledger.client.zrem(key, token)
            except RedisError as error:
                log.debug("a slot comes free when its lease ends: %s", error.what)

    def _wait(self, key: str, token: str, at_once: int) -> None:
        wait_s, away_since_s = FIRST_WAIT_S, None
        while True:
            self._check()
            try:
                if self._taken(key, token, at_once):
                    return
                away_since_s = None
            except (RedisUnreachable, RedisFull):
                away_since_s = away_since_s or time.monotonic()
                if time.monotonic() - away_since_s > self._patience_s:
                    raise
            time.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _taken(self, key: str, token: str, at_once: int) -> bool:
        with redis_errors(self._ledger.url):
            return bool(self._take(keys=[key], args=[token, at_once, int(self._ttl_s * 1000)]))

    def _renew_from_now_on(self) -> None:
        if not self._renews:
            self._renews = True
            threading.Thread(target=self._renew, name="slots", daemon=True).start()

    def _renew(self) -> None:
        """Renew what is held, until nothing is: a lease that ran out is taken anew, over the limit if it must be."""
        while True:
            time.sleep(self._ttl_s / 3)
            with self._changed:
                held = dict(self._held)
                if not held:
                    self._renews = False
                    return
            try:
                for token, key in held.items():
                    self._taken(key, token, 1 << 30)
                    with self._changed:
                        let_go = token not in self._held
                    if let_go:  # while it was being renewed
                        self._ledger.client.zrem(key, token)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next renewal may succeed
                log.debug("slots could not be renewed: %s", error)
