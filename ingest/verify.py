"""Checking what is stored against a job's manifest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ingest import manifest
from ingest.digests import hashed
from ingest.errors import ItemError, JobError, ObjectMissing, Stopped
from ingest.job import Job
from ingest.ledger import State
from ingest.markers import DUPLICATE_OF, object_key
from ingest.stores.base import ObjectInfo, Store
from ingest.stores.leaping import common_folder, just_before

READERS = 16
ROWS_AT_ONCE = 10_000
PASSED_OVER = 1000  # an S3 server lists as many at once


@dataclass(frozen=True, slots=True)
class Finding:
    """A row of the manifest, and what is wrong with its object; "" where nothing is.

    ``by_etag`` says whether ETags were compared: a folder has none.
    """

    key: str
    problem: str
    by_etag: bool = False


def verify(job: Job, *, deep: bool) -> Generator[Finding, None, None]:
    """A finding for each row of a completed job's manifest. Reads only; may be repeated, and closed at any time.

    Failed items have no row: ``job.failures()`` lists them.

    Args:
        deep: read every object back and hash it, instead of comparing its size, and its ETag if it has one, as listed.

    Raises:
        JobError: the job is not completed.
        ObjectMissing: its manifest is not there.
        ManifestDamaged: its manifest is truncated or garbled, or is from before the job was retried.
        StoreError: the destination cannot be read.
    """
    state, counts, _ = job.ledger.snapshot()
    if state not in (State.COMPLETE, State.FAILED):
        raise JobError(f"job {job.job_id} is {state}: only a completed job has a manifest to compare with")
    destination = job.config.destination
    store, prefix = (job.store, "") if destination.dedupe is None else (job.bucket, destination.prefix)
    rows = (
        _looked_for(row, prefix)
        for row in manifest.read_manifest(job.store, job.job_id, job.settings.scratch, counts.batches)
    )
    with _readers() as (readers, check):
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            look: Callable[[_Row], Finding]
            if deep:
                look = lambda row: _read(store, row, check)  # noqa: E731 - one of two, side by side
            else:
                found = listed(store, {row.object_key for row in chunk})
                look = lambda row, found=found: _compare(row, found.get(row.object_key))  # type: ignore[misc]  # noqa: E731
            yield from readers.map(look, chunk)


@contextmanager
def _readers() -> Iterator[tuple[ThreadPoolExecutor, Callable[[], None]]]:
    """Threads, and what they are to call now and then: it ends what they read when nobody wants it any more."""
    ended = threading.Event()

    def check() -> None:
        if ended.is_set():
            raise Stopped("nobody asks any more")

    readers = ThreadPoolExecutor(READERS, "verify")
    try:
        yield readers, check
    finally:
        ended.set()
        readers.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Row:
    """What is looked at of a row, and the key under which the store that is asked has its bytes."""

    key: str
    object_key: str
    is_duplicate: bool
    stored_bytes: int
    sha256: str
    etag: str | None

    def finding(self, problem: str, *, by_etag: bool = False) -> Finding:
        if problem and self.is_duplicate:
            problem = f"is a duplicate of {self.object_key!r}, which {problem}"
        return Finding(self.key, problem, by_etag)


def _looked_for(row: Mapping[str, Any], prefix: str) -> _Row:
    metadata = dict(row["metadata"] or ())
    key = object_key(row["key"], metadata, prefix)
    return _Row(row["key"], key, DUPLICATE_OF in metadata, row["stored_bytes"], row["sha256"], row["etag"])


def listed(store: Store, wanted: Collection[str]) -> dict[str, ObjectInfo]:
    """What a listing says of these objects.

    It begins before the first of them, ends with the last, and leaps where many others lie between two.
    """
    keys = sorted(set(wanted), key=str.encode)
    prefix = common_folder(keys)
    found: dict[str, ObjectInfo] = {}
    place, reached = 0, ""
    while place < len(keys):
        passed = 0
        after = max(just_before(keys[place]), reached, key=str.encode)
        for info in store.list(prefix, after=after or None):
            reached, passed = info.key, passed + 1
            while place < len(keys) and keys[place].encode() <= reached.encode():
                if keys[place] == reached:
                    found[reached] = info
                    passed = 0
                place += 1
            if place == len(keys) or passed == PASSED_OVER:
                break
        else:
            break
    return found


def _compare(row: _Row, info: ObjectInfo | None) -> Finding:
    if info is None:
        return row.finding("is missing")
    if info.size_bytes != row.stored_bytes:
        return row.finding(f"has {info.size_bytes} bytes; {row.stored_bytes} were stored")
    if not info.etag or not row.etag:
        return row.finding("")
    if info.etag != row.etag:
        return row.finding(f"was written again: its ETag is {info.etag}, and was {row.etag}", by_etag=True)
    return row.finding("", by_etag=True)


def _read(store: Store, row: _Row, check: Callable[[], None]) -> Finding:
    try:
        check()
        sha256, size_bytes = hashed(store.read(row.object_key), check)
    except ObjectMissing:
        return row.finding("is missing")
    except ItemError as error:  # it is archived, say
        return row.finding(f"cannot be read: {error.what}")
    if sha256 == row.sha256:
        return row.finding("")
    return row.finding(f"has other content: {size_bytes} bytes with SHA-256 {sha256}")
