"""A job's queue: one Celery queue, ``ingest.<job>``, whose messages say (job, batch number) and no more."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import redis.exceptions
from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import KombuError

from ingest import transport
from ingest.ledger import Ledger
from ingest.redis_client import SOCKET_TIMEOUT_S, redis_errors

TASK_NAME = "ingest.batch"
PUBLISH_AT_ONCE = 1000
PROCESS_READY_WITHIN_S = 600.0
"""A process makes its kit before it says that it is there; Celery kills one that says nothing for longer."""


def queue_name(job_id: str) -> str:
    """The name of a job's queue, and of its key in Redis."""
    return f"ingest.{job_id}"


def make_app(url: str, job_id: str, lease_s: float) -> Celery:
    """The Celery application of a job: its queue, its leases, JSON only, no results."""
    transport.register()
    name = queue_name(job_id)
    index_key, unacked_key = transport.lease_keys(name)
    app = Celery("ingest", broker=transport.broker_url(url), set_as_current=False)
    app.conf.update(
        # The nameless exchange needs no binding in Redis, which a Redis that forgets could lose.
        task_queues=[Queue(name, Exchange(""), routing_key=name)],
        task_default_queue=name,
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_acks_on_failure_or_timeout=False,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # a Redis that takes no writes (MISCONF, READONLY) is waited for
        worker_proc_alive_timeout=PROCESS_READY_WITHIN_S,
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if url.startswith("rediss://") else None,
        broker_transport_options={
            "unacked_index_key": index_key,
            "unacked_key": unacked_key,
            "unacked_mutex_key": f"{name}:unacked_mutex",
            "visibility_timeout": lease_s,
            "unacked_restore_interval": min(2.0, lease_s / 3),
            "unacked_restore_throttle": 1,
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": 5.0,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )
    return app


class JobQueue:
    """The coordinator's side of a job's queue: publish, count, purge."""

    def __init__(self, ledger: Ledger, lease_s: float) -> None:
        self._ledger = ledger
        self._name = queue_name(ledger.job_id)
        self._app = make_app(ledger.url, ledger.job_id, lease_s)

    def publish(self, batches: Iterable[int]) -> None:
        """Queue a message for each batch. One that was queued already does no harm: a batch commits once.

        Raises:
            RedisError: some may not have been queued; the ledger knows which.
        """
        with (
            redis_errors(self._ledger.url),
            _kombu_errors(),
            self._app.connection_for_write() as connection,
        ):
            producer: Any = self._app.amqp.Producer(connection, auto_declare=False)
            with producer.batch(max_size=PUBLISH_AT_ONCE):
                for batch in batches:
                    headers, properties, body = _message(self._app, self._ledger.job_id, batch)
                    producer.publish(
                        body,
                        exchange="",
                        routing_key=self._name,
                        headers=headers,
                        serializer="json",
                        **properties,
                    )

    def waiting(self) -> int:
        """How many messages wait to be taken."""
        with redis_errors(self._ledger.url):
            return int(self._ledger.client.llen(self._name))

    def known(self) -> set[int]:
        """The numbers of the batches that are queued, or leased by a node."""
        client = self._ledger.client
        with redis_errors(self._ledger.url):
            queued = cast("list[bytes]", client.lrange(self._name, 0, -1))
            leased = cast("list[bytes]", client.hvals(f"{self._name}:unacked"))
        return {_batch_of(json.loads(text)) for text in queued} | {
            _batch_of(json.loads(text)[0]) for text in leased
        }

    def purge(self) -> None:
        """Delete the queue with all its messages and leases."""
        keys = [
            self._name,
            *(f"{self._name}:{part}" for part in ("unacked", "unacked_index", "unacked_mutex")),
        ]
        bindings = [f"_kombu.binding.{self._name}", f"_kombu.binding_permanent.{self._name}"]
        with redis_errors(self._ledger.url):
            self._ledger.client.delete(*keys, *bindings)


@contextmanager
def _kombu_errors() -> Iterator[None]:
    """Within it, kombu's own errors become the one of redis-py that is behind them."""
    try:
        yield
    except KombuError as error:
        if isinstance(error.__cause__, redis.exceptions.RedisError):
            raise error.__cause__ from error
        raise redis.exceptions.ConnectionError(str(error)) from error


def _message(app: Celery, job_id: str, batch: int) -> tuple[dict[str, Any], dict[str, Any], Sequence[Any]]:
    task_id = f"{job_id}.{batch}"
    headers, properties, body, _ = app.amqp.as_task_v2(
        task_id,
        TASK_NAME,
        args=(job_id, batch),
        argsrepr=f"({batch})",
        kwargsrepr="",
        create_sent_event=False,
    )
    return headers, properties, body


def _batch_of(message: dict[str, Any]) -> int:
    """The batch number that a queued message carries."""
    args, *_ = json.loads(base64.b64decode(message["body"]))
    return int(args[1])
