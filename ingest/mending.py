"""Batches that were counted, and whose manifest part is lost: they are taken back, to be done again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ingest.feeder import Feeder
from ingest.handle import JobHandle
from ingest.items import FileItem
from ingest.ledger import Listed, Part, pack_items
from ingest.manifest_parts import ManifestDamaged, folder

log = logging.getLogger(__name__)

UNDONE_AT_MOST = 3
"""A store that garbles what it has said it holds is not to keep a job busy for ever."""


def undo(job: JobHandle, batches: Sequence[int]) -> bool:
    """Take batches of a job that is ``completing`` back, and queue them again. False where that cannot be.

    Their files are listed again: the ledger keeps no more of a listed batch than what its items can be known by.

    Raises:
        ManifestDamaged: the source lists other files now, or the job was reopened since they were counted.
        JobError: the job is not ``completing`` any more.
    """
    _, counts, _ = job.ledger.snapshot()
    wanted = set(batches)
    parts = {batch: part for batch, part in job.ledger.parts(counts.batches) if batch in wanted}
    _refuse_reopened(job, parts)
    spans = {batch: part.listed for batch, part in parts.items() if part.listed}
    kept = {batch for batch in spans if job.ledger.payload_items(batch) is not None}
    found = listed_again(job, {batch: listed for batch, listed in spans.items() if batch not in kept})
    payloads = {batch: pack_items(found[batch]) if batch in found else b"" for batch in batches}
    if not job.ledger.undo(payloads, at_most=UNDONE_AT_MOST):
        return False
    job.ledger.note_trouble(f"{len(batches)} manifest parts were lost or garbled; their items are done again")
    job.queue.publish(batches)
    return True


def _refuse_reopened(job: JobHandle, parts: Mapping[int, Part]) -> None:
    """Batches whose failed items have been tried again since, in others, would count these twice if done again."""
    failed = sum(part.counters.get("failed", 0) for part in parts.values())
    if failed != len(job.ledger.failures.places(parts)):
        raise ManifestDamaged(
            f"{folder(job.job_id)}manifest.parquet, which the job had before it was retried, is lost",
            hint="put it back where there is a copy, an older version in the bucket say; "
            "or cancel the job and create it again: what is stored is skipped",
        )


def listed_again(job: JobHandle, batches: Mapping[int, Listed]) -> dict[int, list[FileItem]]:
    """The files of these batches, from one listing of the source.

    Raises:
        ManifestDamaged: a batch has other files now.
    """
    if not batches:
        return {}
    begin = {listed.first: batch for batch, listed in batches.items()}
    found: dict[int, list[FileItem]] = {batch: [] for batch in batches}
    processors = job.processors()
    feeder = Feeder(job.config, job.ledger, job.queue, processors, job.keys(processors), job.context.grid)
    batch: int | None = None
    for item in feeder.listed():
        batch = begin.get(item.path, batch)
        if batch is None:
            continue
        found[batch].append(item)
        if len(found[batch]) == batches[batch].count:
            batch = None
    processors.close()
    for number, listed in batches.items():
        if not found[number] or Listed.of(found[number]) != listed:
            raise ManifestDamaged(
                f"the manifest part of batch {number} is lost or garbled, and the source lists other files than before",
                hint="create the job again: what is stored is skipped",
            )
    return found
