"""Celery's consumer, where Redis is away or refuses: a node waits as long as elsewhere, and ends in words."""

from __future__ import annotations

import logging
import time
from typing import Any, NoReturn

from celery.exceptions import WorkerShutdown
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from redis.exceptions import NoPermissionError, ResponseError

from ingest.errors import RedisError, RedisRefused, RedisUnreachable
from ingest.news import News
from ingest.redis_client import redis_errors
from ingest.workers.patience import patiently

log = logging.getLogger(__name__)

AGAIN_AFTER_S = 2.0


class CarefulConsumer(Consumer):
    """Takes the batches of one node.

    Attributes:
        url: the Redis of the queue.
        patience_s: how long a Redis is waited for that does not let itself be connected to.
        ended_for: why it ended its node, or None.
    """

    url: str
    patience_s: float
    ended_for: RedisError | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._news = News()

    def ensure_connected(self, conn: Any) -> Any:
        """The connection, when Redis has taken it. Celery would wait without an end."""
        try:
            patiently(lambda: self._connect(conn), self.patience_s, maybe_shutdown)
        except RedisError as error:
            self._end(error)
        return conn

    def _connect(self, conn: Any) -> None:
        try:
            with redis_errors(self.url):
                conn.connect()
        except RedisRefused as error:  # its password may be on the way; another right is not
            if isinstance(error.__cause__, NoPermissionError):
                raise
            raise RedisUnreachable(error.what, hint=error.hint) from error

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Called where Redis does not let itself be connected to. Celery connects again."""
        self._look(exc)
        super().on_connection_error_before_connected(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Called where a connection broke, or an answer was an error. Celery connects again, and begins anew."""
        self._look(exc)
        super().on_connection_error_after_connected(exc)

    def _look(self, exc: Exception) -> None:
        """Wait a little where Redis is there, and answers that it will not: else that would be asked at once again."""
        if not isinstance(exc, ResponseError):
            return
        try:
            with redis_errors(self.url):
                raise exc
        except RedisError as error:
            if isinstance(exc, NoPermissionError):
                self._end(error)
            if self._news.is_new(error.what):
                log.warning("waiting for the queue: %s", error)
        time.sleep(AGAIN_AFTER_S)

    def _end(self, error: RedisError) -> NoReturn:
        """End the node: what its user may do does not change by waiting, or it has waited for long enough."""
        type(self).ended_for = error
        raise WorkerShutdown(error.exit_code)


def consumer_for(url: str, patience_s: float) -> type[CarefulConsumer]:
    """The consumer of one node."""
    return type("ThisConsumer", (CarefulConsumer,), {"url": url, "patience_s": patience_s})
