"""The objects of a job that no manifest part names: batches that were cut off, or items that failed, stored them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from ingest.digests import hashed
from ingest.errors import IngestError
from ingest.handle import JobHandle
from ingest.items import Item
from ingest.naming import KeyMaker
from ingest.plugin_loader import load_processors
from ingest.stores.base import ObjectInfo

READERS = 16
KEYS_AT_ONCE = 1000


def objects_of_no_part(job: JobHandle) -> Iterator[tuple[str, str]]:
    """Keys and SHA-256 of objects that say of themselves that this job stored them. Its store keeps metadata.

    To be asked when those that parts name are deleted. Where keys are made of what a processor found, all that was
    stored below their common begin since the job was made is looked at; elsewhere the keys of the items that are left.
    """
    processors = load_processors(job.config, job.context, job.settings)
    keys = job.keys(processors)
    looked_at = _stored_since(job, keys.begin()) if keys.may_be_found else _keys_left(job, keys)
    with ThreadPoolExecutor(READERS, "partless") as readers:
        while some := [*islice(looked_at, KEYS_AT_ONCE)]:
            yield from _own(job, readers.map(job.store.stat, some))
    processors.close()


def _own(job: JobHandle, found: Iterable[ObjectInfo | None]) -> Iterator[tuple[str, str]]:
    for info in found:
        if info and info.job_id == job.job_id:
            yield info.key, info.sha256 or hashed(job.store.read(info.key))[0]


def _stored_since(job: JobHandle, prefix: str) -> Iterator[str]:
    """The keys below a prefix of what may have been stored since the job was made, by the store's own clock."""
    since_s = job.record.capabilities.probed_at_s or 0
    for info in job.store.list(prefix):
        if info.modified_s is None or info.modified_s >= since_s:
            yield info.key


def _keys_left(job: JobHandle, keys: KeyMaker) -> Iterator[str]:
    """The keys of the items that no batch has counted."""
    _, counts, _ = job.ledger.snapshot()
    for batch in job.ledger.uncommitted(counts.batches):
        for item in _items_left(job, batch):
            key = _key_or_none(keys, item)
            if key is not None:
                yield key


def _items_left(job: JobHandle, batch: int) -> list[Item]:
    """The items of a batch; none where an earlier cancel has forgotten them."""
    try:
        return job.items(batch, job.ledger.payload_items(batch))
    except IngestError:
        return []


def _key_or_none(keys: KeyMaker, item: Item) -> str | None:
    try:
        return keys.key(item)
    except IngestError:
        return None
