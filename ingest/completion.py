"""The end of a job: its manifest and finishers; and the undoing of one that was cancelled.

Both read the manifest, and so need pyarrow, which takes a while to import: this module is imported when it is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ingest import manifest
from ingest.config import local_folder
from ingest.ending import abort_uploads
from ingest.errors import JobError
from ingest.failure_list import list_failures
from ingest.finishing import Finishing, ManifestResults
from ingest.handle import JobHandle
from ingest.ledger import State
from ingest.markers import Markers
from ingest.mending import undo
from ingest.others import Others
from ingest.partless import objects_of_no_part
from ingest.twin_keys import may_have_twin_keys, refuse_twin_keys
from ingest.version import __version__

log = logging.getLogger(__name__)

DELETED_AT_ONCE = 1000


def complete(job: JobHandle) -> State:
    """Make the manifest, run the finishers, and end the job. May be repeated, and taken over from one that died.

    Where a part is missing or garbled its batch is taken back, and queued again: the job is ``uploading`` then.

    Raises:
        JobError: batches are still to be done, or counts disagree.
        StoreError: the destination cannot be written; the job stays ``completing``.
        ManifestDamaged: a part is missing or garbled, and its batch cannot be done again; the job stays ``completing``.
        IngestError: a finisher failed, or two items have one key; the job stays ``completing``.
    """
    state, counts, fields = job.ledger.snapshot()
    if state in (State.COMPLETE, State.FAILED):
        return state
    job.ledger.finish(State.COMPLETING)
    abort_uploads(job)
    _, counts, _ = job.ledger.snapshot()
    end = State.FAILED if counts.failed else State.COMPLETE

    prefix = job.config.destination.prefix

    def still_completing() -> None:
        state = job.ledger.state()
        if state is not State.COMPLETING:
            raise JobError(f"job {job.job_id} is {state}, and is not completed any more")

    def finish(parquet: Path) -> dict[str, Any]:
        results = ManifestResults(job.store, parquet, job.settings.scratch, counts.failed, prefix)
        finishing = Finishing(job.store, job.ledger, still_completing)
        additions = finishing.run(job.finishers(), results)
        still_completing()
        was_reopened = "reopened" in fields
        return {"additions": additions, "failures": list_failures(job, scratch, was_listed=was_reopened)}

    def look(parquet: Path) -> None:
        if may_have_twin_keys(job):
            refuse_twin_keys(parquet, local_folder(job.config.destination.url))

    def tokens() -> Iterator[tuple[int, str]]:
        return ((batch, part.token) for batch, part in job.ledger.parts(counts.batches))

    scratch = job.settings.scratch
    committed = manifest.Committed(job.job_id, counts.batches, tokens)
    steps = manifest.Steps(look, still_completing, finish)
    try:
        manifest.complete(job.store, committed, _summary(job, end), scratch, steps, prefix)
    except manifest.ManifestDamaged as error:
        damaged = manifest.damaged(job.store, committed, scratch)
        if not damaged or not undo(job, damaged):
            raise
        log.warning("%s; %d batches are done again", error.what, len(damaged))
        return State.UPLOADING
    job.queue.purge()
    job.ledger.forget_payloads()
    job.ledger.transition(end, State.COMPLETING)
    if end is State.COMPLETE:  # nothing reopens it; a failed one is retried from what the ledger knows
        job.ledger.forget_work()
    return end


def _summary(job: JobHandle, end: State) -> dict[str, Any]:
    summary = job.status().to_dict()
    for passing in ("nodes", "node_count", "pause", "trouble"):
        del summary[passing]
    return {
        **summary,
        "state": str(end),
        "ended_s": job.ledger.now_s(),
        "ingest_version": __version__,
        "capabilities": job.record.capabilities.to_dict(),
        "config": job.config.model_dump(mode="json", by_alias=True),
    }


def delete_stored(job: JobHandle) -> int:
    """Delete what a cancelled job stored and did not find there, then its manifest; how many objects were its data.

    What batches that were cut off had stored is deleted where the object itself says that this job stored it.
    A folder does not say so, and keeps them. What finishers stored goes too. What others have written since stays, and
    what is in other jobs' manifests. Where the job deduplicates, the markers of its objects go before them, and what
    other jobs refer to stays.

    Raises:
        ManifestDamaged: this job's manifest, or another's below the destination, is truncated or garbled.
    """
    others = Others(job)
    count = _delete(job, others, manifest.stored_objects(job.store, job.job_id, job.settings.scratch))
    if job.record.capabilities.metadata:
        count += _delete(job, others, objects_of_no_part(job))
    job.store.delete(job.ledger.additions())
    job.store.delete([info.key for info in job.store.list(manifest.folder(job.job_id))])
    if job.config.destination.dedupe:
        Markers(job.bucket).forget_uses(job.job_id)
    return count


def _delete(job: JobHandle, others: Others, objects: Iterator[tuple[str, str]]) -> int:
    """Delete those objects (keys and SHA-256) that are the job's alone; how many they were."""
    count = 0
    while stored := list(islice(objects, DELETED_AT_ONCE)):
        chunk = others.leave(stored)
        keys = _unused(job, chunk) if job.config.destination.dedupe else [key for key, _ in chunk]
        job.store.delete(keys)
        count += len(keys)
    return count


def _unused(job: JobHandle, objects: Sequence[tuple[str, str]]) -> list[str]:
    """The keys of those objects (keys and SHA-256) that no other job refers to. Their markers are gone."""
    prefix = job.config.destination.prefix
    used = Markers(job.bucket).withdraw(job.job_id, [(prefix + key, sha256) for key, sha256 in objects])
    if used:
        users = ", ".join(sorted(frozenset().union(*used.values())))
        log.warning(
            "%d objects that job %s stored stay: other jobs refer to them (%s)", len(used), job.job_id, users
        )
    return [key for key, _ in objects if prefix + key not in used]
