"""Two items that were stored under one key, of which the object has the bytes of one alone.

Where a processor finds keys in what it reads, and nothing refuses an overwrite, two nodes can look and store at once.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from ingest.config import local_folder
from ingest.config.key_template import FILE_FIELDS, JOB_FIELDS, TILE_FIELDS
from ingest.errors import IngestError
from ingest.handle import JobHandle

ROWS_AT_ONCE = 128 * 1024


def may_have_twin_keys(job: JobHandle) -> bool:
    """Whether it is worth a look: the store did not refuse to overwrite, and keys are found in what is read, or are
    names in a folder, which may not tell all of them apart.
    """
    is_guarded = job.record.capabilities.if_absent and job.config.destination.on_existing != "overwrite"
    known = {*JOB_FIELDS, *FILE_FIELDS, *TILE_FIELDS}
    is_folder = local_folder(job.config.destination.url) is not None
    return not is_guarded and (is_folder or not job.config.key_template.field_names <= known)


def refuse_twin_keys(manifest: Path, folder: Path | None = None) -> None:
    """Read the keys of a local manifest. Memory: 8 bytes an object, twice for a moment.

    Args:
        folder: where the objects are files; of keys that differ in their case, say, it is asked whether they are one.

    Raises:
        IngestError: two of its rows have one key, or file, and different bytes; it names both items.
    """
    alike = _alike(manifest)
    if not alike:
        return
    seen: defaultdict[str, list[_Row]] = defaultdict(list)
    with pq.ParquetFile(manifest) as rows:
        for batch in rows.iter_batches(ROWS_AT_ONCE, columns=["item", "key", "sha256"]):
            for found in batch.to_pylist():
                row = _Row(**found)
                folded = _folded(row.key)
                if hash(folded) not in alike:
                    continue
                for other in seen[folded]:
                    if other.sha256 != row.sha256 and _are_one(folder, other.key, row.key):
                        raise _twins(other, row)
                seen[folded].append(row)


class _Row(NamedTuple):
    item: str
    key: str
    sha256: str


def _folded(key: str) -> str:
    """What all names have in common that some file system takes for one: FAT, exFAT and those of macOS."""
    parts = unicodedata.normalize("NFD", key).casefold().split("/")
    return "/".join(part.rstrip(" .") for part in parts)


def _are_one(folder: Path | None, one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return folder is not None and (folder / one).samefile(folder / other)
    except OSError:  # one of them is not there: no other was written over it
        return False


def _alike(manifest: Path) -> set[int]:
    """The hashes that several keys have: as a rule they are one key."""
    with pq.ParquetFile(manifest) as rows:
        pieces = [
            np.fromiter(
                (hash(_folded(str(key))) for key in batch.column(0).to_pylist()), np.int64, len(batch)
            )
            for batch in rows.iter_batches(ROWS_AT_ONCE, columns=["key"])
        ]
    hashes = np.concatenate([np.empty(0, np.int64), *pieces])
    hashes.sort()
    return set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


def _twins(one: _Row, other: _Row) -> IngestError:
    keys = repr(one.key) if one.key == other.key else f"{one.key!r} and {other.key!r}, one file here"
    return IngestError(
        f"the items {one.item!r} and {other.item!r} were both stored under {keys}, "
        "which has the bytes of one of them alone",
        hint="cancel the job, and create it again with a destination.key that tells them apart",
    )
