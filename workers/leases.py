"""Bootsteps of a node's consumer: leases renewed however long a batch takes, and the node's own record."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import bootsteps

from ingest.errors import RedisError
from ingest.presence import NODE_TTL_S, Presence, Rate

log = logging.getLogger(__name__)


class RenewLeases(bootsteps.StartStopStep):
    """Renews the leases of this node's batches every third of the lease time.

    kombu's Redis transport has no renewal: without it, a batch that takes longer than the visibility
    timeout would be given to another node while the first still works on it.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        """Begin, each time the consumer has (re)connected."""
        qos = parent.task_consumer.channel.qos
        self._timer = parent.timer.call_repeatedly(qos.visibility_timeout / 3, self._renew, (qos,))

    def _renew(self, qos: Any) -> None:
        try:
            qos.renew()
        except qos.channel.connection_errors as error:
            log.warning("leases could not be renewed now: %s", error)

    def stop(self, parent: Any) -> None:
        """Pause while the connection is away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class KeepPresence(bootsteps.StartStopStep):
    """Refreshes the node's record, which ``status`` shows and which expires when the node dies."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    presence: Presence
    node: str
    facts: dict[str, str | int | float]

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
            items_per_s, bytes_per_s = self._rate.update(time.monotonic(), *self.presence.totals(self.node))
            rates = {"items_per_s": round(items_per_s, 2), "bytes_per_s": round(bytes_per_s)}
            self.presence.announce(self.node, {**self.facts, **rates})
        except RedisError as error:
            log.warning("this node could not say that it is there: %s", error.what)

    def stop(self, parent: Any) -> None:
        """Pause while the connection is away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def presence_step(presence: Presence, node: str, facts: dict[str, str | int | float]) -> type[KeepPresence]:
    """The step for one node."""
    return type("KeepThisPresence", (KeepPresence,), {"presence": presence, "node": node, "facts": facts})
