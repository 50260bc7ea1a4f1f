"""The one Celery task: a batch, from its lease to its commit.

Put, then the manifest part, then the ledger, then the acknowledgement (which Celery sends when the task
returns). A crash between any two of them costs repeated work and nothing else.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from celery import Celery
from celery.exceptions import Reject
from celery.signals import worker_process_init

from ingest import manifest_parts
from ingest.clock import clock_trouble
from ingest.config import Settings
from ingest.errors import MAY_BE_OURS, ClockWrong, IngestError, ProcessSpent, RedisError, Stopped
from ingest.job import Job
from ingest.ledger import Listed, State
from ingest.news import News
from ingest.queue import TASK_NAME
from ingest.workers.batch import Batch, Kit, do_batch
from ingest.workers.guard import be_guarded
from ingest.workers.hands import Hands
from ingest.workers.kit import kit_for
from ingest.workers.memory import keep_freed_memory
from ingest.workers.patience import patiently

log = logging.getLogger(__name__)

TRY_AGAIN_AFTER_S = 2.0
EXIT_SPENT = 75  # EX_TEMPFAIL

_news = News()


def register_task(app: Celery, job_id: str, node: str, settings: Settings, hands: Hands) -> None:
    """Give the application its task, and let each process make its kit as soon as it is forked."""

    @cache
    def kit() -> tuple[Job, Kit]:
        return kit_for(job_id, node, settings, hands)

    def on_fork(**_: Any) -> None:
        be_guarded()
        keep_freed_memory()
        try:
            kit()
        except IngestError as error:
            log.error("this process is not ready, and tries again with its first batch: %s", error.what)
        gc.freeze()  # what is here by now stays: not to look through it again and again saves a tenth of the CPU

    worker_process_init.connect(on_fork, weak=False)
    logging.getLogger("celery.app.trace").addFilter(_is_no_rejection)

    @app.task(name=TASK_NAME)
    def batch(job_id: str, number: int) -> None:
        run_task(kit, number)


def _is_no_rejection(record: logging.LogRecord) -> bool:
    """Of a batch that goes back Celery tells with a traceback, each time; why it does is said here."""
    return bool(getattr(record, "data", {}).get("description") != "rejected")


def run_task(kit: Callable[[], tuple[Job, Kit]], number: int) -> None:
    """Do a batch, or give its message back to the queue, with the reason in the job's record.

    Raises:
        celery.exceptions.Reject: the batch was stopped, or could not be done here; it goes back to the queue.
    """
    job: Job | None = None
    try:
        job, tools = kit()
        run_batch(job, tools, number)
    except Stopped as error:
        raise Reject(error.what, requeue=True) from None
    except ClockWrong as error:
        _say_why(number, error)
        assert job is not None
        tools.watch.take(f"waits: {clock_trouble(job.ledger) or error.what}")
        raise _given_back(None, number, error.what) from error
    except MAY_BE_OURS as error:  # the job's pause says so
        _say_why(number, error)
        raise _given_back(None, number, error.what) from error
    except ProcessSpent as error:
        _say_why(number, error)
        _given_back(job, number, error.what)
        os._exit(EXIT_SPENT)  # the node starts another, and the queue gets its batch back
    except IngestError as error:
        _say_why(number, error)
        raise _given_back(job, number, error.what) from error
    except Exception as error:
        if _news.is_new(repr(error)):
            log.exception("batch %d goes back to the queue", number)
        raise _given_back(job, number, f"a fault in a plugin or in Ingest: {error!r}") from error


def _say_why(number: int, error: IngestError) -> None:
    if _news.is_new(error.what):
        log.error("batch %d goes back to the queue: %s", number, error)


def _given_back(job: Job | None, number: int, reason: str) -> Reject:
    """What gives the message back, after a while: perhaps only this node cannot do it, and another takes it."""
    with suppress(RedisError):
        if job is not None:
            job.ledger.note_trouble(f"batch {number}: {reason}")
    time.sleep(TRY_AGAIN_AFTER_S)
    return Reject(reason, requeue=True)


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

    def hold(index: int) -> None:
        process = os.getpid()
        patiently(lambda: ledger.suspects.hold(number, index, kit.node, process), patience_s, kit.watch.check)
        kit.watch.also(lambda: ledger.suspects.pardon(number, index, kit.node, process))

    part = secrets.token_hex(4)
    try:
        batch = Batch(
            number,
            job.items(number, attempt.items),
            attempt.number,
            attempt.kills,
            attempt.began_s,
            attempt.was_begun,
        )
        result = do_batch(batch, kit, hold)
        if attempt.number > 1:
            patiently(lambda: ledger.suspects.drop(number), patience_s, kit.watch.check)
        manifest_parts.write_part(kit.store, job.job_id, number, part, result.rows)
    except Exception:
        # It did not die: no item is to blame, and the attempt does not count.
        patiently(lambda: ledger.release(number), patience_s)
        raise
    finally:
        kit.watch.also(None)
    listed = Listed.of(attempt.items) if attempt.items else None
    return patiently(
        lambda: ledger.commit(
            number, result.tally, payload_sha1=attempt.payload_sha1, part=part, listed=listed
        ),
        patience_s,
    )
