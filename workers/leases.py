"""A node's leases: renewed however long a batch takes, given back when it stops. And the node's own record."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from celery.worker import state
from redis.exceptions import RedisError as AnyRedisError

from ingest.errors import RedisError
from ingest.ledger import Ledger
from ingest.presence import NODE_TTL_S, Presence, Rate
from ingest.queue import queue_name
from ingest.redis_client import redis_errors
from ingest.transport import lease_text, renew

log = logging.getLogger(__name__)


class RenewLeases(threading.Thread):
    """Renews the leases of this node's batches three times in each lease time.

    kombu's Redis transport has no renewal: without it, a batch that takes longer than the visibility timeout
    would be given to another node while the first still works on it. The leases are the node's, not a
    channel's: a thread with a connection of its own renews them as soon as a Redis that was away is back,
    before Celery has connected again.
    """

    def __init__(self, ledger: Ledger, lease_s: float) -> None:
        super().__init__(name="leases", daemon=True)
        self._ledger = ledger
        self._every_s = lease_s / 3
        self._ended = threading.Event()

    def run(self) -> None:
        """Renew until told to stop."""
        while not self._ended.wait(self._every_s):
            try:
                self.renew()
            except RedisError as error:
                log.warning("leases could not be renewed now: %s", error.what)
            except Exception:
                log.exception("leases could not be renewed now")

    def renew(self) -> int:
        """Renew them once; how many there are.

        Raises:
            RedisError: it is away, or takes no writes.
        """
        ledger = self._ledger
        with redis_errors(ledger.url):
            return renew(ledger.client, queue_name(ledger.job_id), ledger.key(), in_hand())

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join(5)


def in_hand() -> dict[str, str]:
    """The leases of the messages that this node works on, or has taken to work on next, by their tags."""
    requests = {*_members(state.active_requests), *_members(state.reserved_requests)}
    return {
        request.message.delivery_tag: lease_text(request.message)
        for request in requests
        if not request.acknowledged
    }


def _members(requests: Any) -> tuple[Any, ...]:
    """The members of a set that another thread changes: a weak set cannot be copied while one is added."""
    while True:
        try:
            return tuple(requests)
        except RuntimeError:
            time.sleep(0.001)


class GiveBack(bootsteps.StartStopStep):
    """Gives back to the queue what the node received and has not done, when it has stopped."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def shutdown(self, parent: Any) -> None:
        """Called once, when the pool has ended. Where Redis is away, the leases run out instead."""
        if not parent.task_consumer:
            return
        try:
            parent.task_consumer.channel.qos.give_back()
        except (AnyRedisError, *parent.connection_errors) as error:
            log.warning("what was not begun could not be given back: %s", error)


class KeepPresence(bootsteps.StartStopStep):
    """Refreshes the node's record, which ``status`` shows and which expires when the node dies."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    presence: Presence
    node: str
    facts: dict[str, str | int | float]
    processes: Callable[[], list[int]]

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._timer: Any = None
        self._rate = Rate()

    def start(self, parent: Any) -> None:
        """Begin, each time the consumer has (re)connected."""
        self._refresh()
        self._timer = parent.timer.call_repeatedly(NODE_TTL_S / 5, self._refresh)

    def _refresh(self) -> None:
        try:
            done = self.presence.totals(self.node, self.processes())
            items_per_s, bytes_per_s = self._rate.update(time.monotonic(), *done)
            rates = {"items_per_s": round(items_per_s, 4), "bytes_per_s": round(bytes_per_s)}
            self.presence.announce(self.node, {**self.facts, **rates})
        except RedisError as error:
            log.warning("this node could not say that it is there: %s", error.what)

    def stop(self, parent: Any) -> None:
        """Pause while the connection is away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def presence_step(
    presence: Presence, node: str, facts: dict[str, str | int | float], processes: Callable[[], list[int]]
) -> type[KeepPresence]:
    """The step for one node; ``processes`` gives the numbers of those that it has now."""
    known = {"presence": presence, "node": node, "facts": facts, "processes": staticmethod(processes)}
    return type("KeepThisPresence", (KeepPresence,), known)
