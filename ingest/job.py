"""A job from the outside: look at it, cancel, retry and complete it.

The commands are thin over this module and :mod:`ingest.creation`, and notebooks use them too::

    import ingest
    job = ingest.create("config.json")
    print(job.status().state)
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from ingest import ending
from ingest.config import Settings
from ingest.errors import IngestError, JobError
from ingest.handle import JobHandle
from ingest.ledger import State, job_ids
from ingest.redis_client import connect
from ingest.redis_server import redis_url


class Job(JobHandle):
    """A handle on a job in Redis, with what a person may do to it. Every method may be repeated."""

    def cancel(self, *, delete_uploaded: bool = False) -> int:
        """Stop the job for good: nodes stop, the queue is purged, unfinished uploads are aborted.

        A cancel that was cut off is finished.

        Args:
            delete_uploaded: delete the objects that this job stored, too; but none that was written again since, or
                that another job has in its manifest or refers to (``destination.dedupe``).

        Returns:
            How many objects were deleted.

        Raises:
            JobError: the job has ended already; or, with ``delete_uploaded``, another is under way below the same
                destination.
        """
        if delete_uploaded:
            self._refuse_where_others_work()
        ending.begin_cancel(self)
        deleted: int = self.completion.delete_stored(self) if delete_uploaded else 0
        ending.end_cancel(self)
        return deleted

    def _refuse_where_others_work(self) -> None:
        """What another job finds stored counts as its own before its manifest says so."""
        for other in jobs(self.settings):
            if not isinstance(other, Job) or other.job_id == self.job_id:
                continue
            state = other.ledger.state()
            if state in (State.PREPARING, State.UPLOADING) and _overlap(self, other):
                raise JobError(
                    f"job {other.job_id} is {state} below {other.config.destination.url}, and may count "
                    f"on what job {self.job_id} has stored there",
                    hint="wait until it has ended, or cancel this one without --delete-uploaded",
                )

    def expire(self) -> bool:
        """End the job if its days have passed. True where they have."""
        return ending.expire(self)

    def retry(self) -> int:
        """Reopen a failed job with its failed items; how many they are.

        Raises:
            JobError: the job is not ``failed``.
        """
        return ending.retry(self)

    def complete(self) -> State:
        """Make the manifest and end the job; see :func:`ingest.completion.complete`.

        Raises:
            JobError: batches are still to be done.
            StoreError: the destination cannot be written; the job stays ``completing``.
        """
        state: State = self.completion.complete(self)
        return state

    @property
    def completion(self) -> Any:
        """The module that completes jobs, imported when it is first needed: it takes a while."""
        return importlib.import_module("ingest.completion")


def jobs(settings: Settings) -> Iterator[Job | IngestError]:
    """Every job in this Redis, newest first; an error in place of one that cannot be read."""
    url = redis_url(settings)
    for job_id in job_ids(url, connect(url)):
        try:
            yield Job(job_id, settings)
        except JobError as error:
            yield error


def _overlap(one: Job, other: Job) -> bool:
    """Whether one's destination is the other's, or lies in it."""
    ours, theirs = one.config.destination, other.config.destination
    ways = (f"{ours.url}/".startswith(f"{theirs.url}/"), f"{theirs.url}/".startswith(f"{ours.url}/"))
    return ours.endpoint_url == theirs.endpoint_url and any(ways)
