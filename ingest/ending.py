"""The ways in which a job's work ends early, or begins again: cancel, expire, retry."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from itertools import islice

from ingest.errors import ConfigError, JobError, StoreError
from ingest.handle import JobHandle
from ingest.items import FileItem, Item
from ingest.ledger import OPEN_STATES, State, pack_items

log = logging.getLogger(__name__)

NODES_GONE_WITHIN_S = 12.0


def begin_cancel(job: JobHandle) -> None:
    """Stop all nodes, purge the queue and abort unfinished uploads; the job is ``cancelling`` then. May be repeated.

    Raises:
        JobError: the job has ended already.
    """
    if job.ledger.state() is State.CANCELLED:
        return
    job.ledger.transition(State.CANCELLING, *OPEN_STATES)
    wind_up(job)


def end_cancel(job: JobHandle) -> None:
    """Forget the work of a job that is ``cancelling``, and call it ``cancelled``. May be repeated."""
    if job.ledger.state() is State.CANCELLING:
        job.ledger.forget_work()
        job.ledger.transition(State.CANCELLED, State.CANCELLING)


def expire(job: JobHandle) -> bool:
    """End a job that was not finished in ``expires_after_days`` since it was made or reopened. True where it has.

    Where the destination cannot be reached, what is unfinished there is aborted the next time.
    """
    state, _, fields = job.ledger.snapshot()
    since_s = int(fields.get("reopened_s", job.record.created_s))
    if job.ledger.now_s() - since_s < job.config.expires_after_days * 86_400:
        return False
    if state in OPEN_STATES:
        job.ledger.transition(State.EXPIRED, *OPEN_STATES)
    elif state is not State.EXPIRED or "wound_up" in fields:
        return False
    try:
        wind_up(job)
    except (StoreError, ConfigError) as error:
        log.warning("job %s has expired, but %s", job.job_id, error.what)
        return True
    job.ledger.forget_work()
    job.ledger.note(wound_up="1")
    return True


def wind_up(job: JobHandle) -> None:
    """Purge the queue, wait for the nodes to go, and abort what they left half done."""
    job.queue.purge()
    gone_by = time.monotonic() + NODES_GONE_WITHIN_S
    while job.presence.nodes() and time.monotonic() < gone_by:
        time.sleep(0.1)
    job.queue.purge()
    abort_uploads(job)


def abort_uploads(job: JobHandle) -> None:
    """Abort the unfinished multipart uploads of this job. May be repeated."""
    for key, upload_id in job.ledger.uploads.all().items():
        job.store.abort_upload(key, upload_id)
        job.ledger.uploads.forget_upload(key)


def retry(job: JobHandle) -> int:
    """Reopen a failed job with its failed items; how many they are.

    Files are taken as they are now, whatever their size was when they were first listed.

    Raises:
        JobError: the job is not ``failed``.
    """
    state = job.ledger.state()
    if state is not State.FAILED:
        raise JobError(f"job {job.job_id} is {state}; only a failed job can be retried")
    while True:
        _, counts, _ = job.ledger.snapshot()
        items, payloads = 0, []
        afresh = (_afresh(failure.item) for failure in job.failures())
        while batch := list(islice(afresh, job.config.batch_items)):
            items += len(batch)
            payloads.append(pack_items(batch))
        if job.ledger.reopen(payloads, failures=items, batches=counts.batches):
            job.queue.publish(range(counts.batches, counts.batches + len(payloads)))
            return items


def _afresh(item: Item) -> Item:
    """A failed item as it is tried again: a file as it is now."""
    return replace(item, size_bytes=None, mtime_ns=None) if isinstance(item, FileItem) else item
