"""Checking what is stored against a job's manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ingest import manifest
from ingest.errors import ObjectMissing
from ingest.job import Job
from ingest.stores.base import ObjectInfo, Store
from ingest.stores.hashing import hashed

READERS = 16
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """A row of the manifest, and what is wrong with its object; "" where nothing is."""

    key: str
    problem: str


def verify(job: Job, *, deep: bool) -> Iterator[Finding]:
    """A finding for each row of a completed job's manifest. Reads only; may be repeated.

    Args:
        deep: read every object back and hash it, instead of comparing its size and ETag as listed.

    Raises:
        ObjectMissing: the job has no manifest.
        StoreError: the destination cannot be read.
    """
    rows = manifest.read_manifest(job.store, job.job_id, job.settings.scratch)
    with ThreadPoolExecutor(READERS, "verify") as readers:
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            look: Callable[[Mapping[str, Any]], Finding]
            if deep:
                look = lambda row: _read(job.store, row)  # noqa: E731 - one of two, side by side
            else:
                listed = _listed(job.store, chunk)
                look = lambda row, listed=listed: _compare(row, listed.get(row["key"]))  # type: ignore[misc]  # noqa: E731
            yield from readers.map(look, chunk)


def _listed(store: Store, rows: list[Mapping[str, Any]]) -> dict[str, ObjectInfo]:
    """What a listing says of the rows' objects."""
    wanted = {row["key"] for row in rows}
    folders = sorted({key.rpartition("/")[0] for key in wanted})
    found: dict[str, ObjectInfo] = {}
    if len(folders) > ROWS_AT_ONCE // 100:
        return {key: info for key in wanted if (info := store.stat(key)) is not None}
    for folder in folders:
        for info in store.list(f"{folder}/" if folder else ""):
            if info.key in wanted:
                found[info.key] = info
    return found


def _compare(row: Mapping[str, Any], info: ObjectInfo | None) -> Finding:
    key = row["key"]
    if info is None:
        return Finding(key, "is missing")
    if info.size_bytes != row["stored_bytes"]:
        return Finding(key, f"has {info.size_bytes} bytes; {row['stored_bytes']} were stored")
    if info.etag and row["etag"] and info.etag != row["etag"]:
        return Finding(key, f"was written again: its ETag is {info.etag}, and was {row['etag']}")
    return Finding(key, "")


def _read(store: Store, row: Mapping[str, Any]) -> Finding:
    try:
        sha256, size_bytes = hashed(store.read(row["key"]))
    except ObjectMissing:
        return Finding(row["key"], "is missing")
    if sha256 == row["sha256"]:
        return Finding(row["key"], "")
    return Finding(row["key"], f"has other content: {size_bytes} bytes with SHA-256 {sha256}")
