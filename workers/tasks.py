"""The one Celery task: a batch, from its lease to its commit.

Put, then the manifest part, then the ledger, then the acknowledgement (which Celery sends when the task
returns). A crash between any two of them costs repeated work and nothing else.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from celery import Celery
from celery.exceptions import Reject
from celery.signals import worker_process_init

from ingest import manifest
from ingest.config import Settings
from ingest.errors import IngestError, Stopped
from ingest.job import Job
from ingest.ledger import Attempt, State
from ingest.queue import TASK_NAME
from ingest.workers.batch import Batch, Kit, do_batch
from ingest.workers.kit import kit_for
from ingest.workers.patience import patiently

log = logging.getLogger(__name__)

TRY_AGAIN_AFTER_S = 2.0


def register_task(app: Celery, job_id: str, node: str, settings: Settings) -> None:
    """Give the application its task, and let each process make its kit as soon as it is forked."""

    @cache
    def kit() -> tuple[Job, Kit]:
        return kit_for(job_id, node, settings)

    def on_fork(**_: Any) -> None:
        try:
            kit()
        except IngestError as error:
            log.error("this process is not ready, and tries again with its first batch: %s", error.what)
        gc.freeze()  # what is here by now stays: not to look through it again and again saves a tenth of the CPU

    worker_process_init.connect(on_fork, weak=False)

    @app.task(name=TASK_NAME)
    def batch(job_id: str, number: int) -> None:
        run_task(kit, number)


def run_task(kit: Callable[[], tuple[Job, Kit]], number: int) -> None:
    """Do a batch, or give its message back to the queue.

    Raises:
        celery.exceptions.Reject: the batch was stopped, or could not be begun; it goes back to the queue.
    """
    try:
        job, tools = kit()
        run_batch(job, tools, number)
    except Stopped as error:
        raise Reject(error.what, requeue=True) from None
    except IngestError as error:
        log.error("batch %d goes back to the queue: %s", number, error)
        time.sleep(TRY_AGAIN_AFTER_S)  # perhaps only this node cannot do it, and another takes it meanwhile
        raise Reject(error.what, requeue=True) from error


def run_batch(job: Job, kit: Kit, number: int) -> bool:
    """Do a batch of a job and commit it. False where it was committed before, or the job takes no more.

    Raises:
        Stopped: the work was asked to stop; the attempt does not count.
        RedisError: Redis has been away for longer than this node is patient.
    """
    ledger, patience_s = job.ledger, job.settings.redis_patience_s
    attempt = patiently(lambda: ledger.begin(number), patience_s, kit.watch.check)
    if attempt is None or isinstance(attempt, State):
        return False
    batch = _as_batch(job, number, attempt)
    try:
        result = do_batch(
            batch,
            kit,
            lambda index: patiently(lambda: ledger.hold_item(number, index), patience_s, kit.watch.check),
        )
        manifest.write_part(kit.store, job.job_id, number, result.rows)
    except Stopped:
        ledger.release(number)
        raise
    return patiently(lambda: ledger.commit(number, result.tally), patience_s)


def _as_batch(job: Job, number: int, attempt: Attempt) -> Batch:
    items = job.items(number, attempt.items)
    return Batch(number, items, attempt.number, attempt.kills, attempt.began_s)
