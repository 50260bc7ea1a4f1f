"""Two items that were stored under one key, of which the object has the bytes of one alone.

Where a processor finds keys in what it reads, and nothing refuses an overwrite, two nodes can look and store at once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ingest.config.key_template import FILE_FIELDS, JOB_FIELDS, TILE_FIELDS
from ingest.errors import IngestError
from ingest.handle import JobHandle

ROWS_AT_ONCE = 128 * 1024


def may_have_twin_keys(job: JobHandle) -> bool:
    """Whether it is worth a look: keys are found in what is read, and the store did not refuse to overwrite."""
    is_guarded = job.record.capabilities.if_absent and job.config.destination.on_existing != "overwrite"
    known = {*JOB_FIELDS, *FILE_FIELDS, *TILE_FIELDS}
    return not is_guarded and not job.config.key_template.field_names <= known


def refuse_twin_keys(manifest: Path) -> None:
    """Read the keys of a local manifest. Memory: 8 bytes an object, twice for a moment.

    Raises:
        IngestError: two of its rows have one key and different bytes; it names both items.
    """
    alike = _alike(manifest)
    if not alike:
        return
    first: dict[str, tuple[str, str]] = {}
    with pq.ParquetFile(manifest) as rows:
        for batch in rows.iter_batches(ROWS_AT_ONCE, columns=["item", "key", "sha256"]):
            for row in batch.to_pylist():
                key, found = row["key"], (row["item"], row["sha256"])
                if hash(key) in alike and first.setdefault(key, found)[1] != found[1]:
                    raise _twins(key, first[key][0], found[0])


def _alike(manifest: Path) -> set[int]:
    """The hashes that several keys have: as a rule they are one key."""
    with pq.ParquetFile(manifest) as rows:
        pieces = [
            np.fromiter(map(hash, batch.column(0).to_pylist()), np.int64, len(batch))
            for batch in rows.iter_batches(ROWS_AT_ONCE, columns=["key"])
        ]
    hashes = np.concatenate([np.empty(0, np.int64), *pieces])
    hashes.sort()
    return set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


def _twins(key: str, one: str, other: str) -> IngestError:
    return IngestError(
        f"the items {one!r} and {other!r} were both stored under {key!r}, which has the bytes of one of them alone",
        hint="cancel the job, and create it again with a destination.key that tells them apart",
    )
