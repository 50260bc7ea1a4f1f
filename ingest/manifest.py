"""The manifest: what was stored, beside the data, in ``<destination>/.ingest/<job>/``.

While the job runs, each batch writes a part before it is committed. At completion the parts become
``manifest.parquet``, ``manifest-sha256.txt`` (as ``sha256sum -c`` reads it, from the root of a downloaded
copy) and ``job.json``. Every step may be repeated: the manifest notes which batches it holds.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.digests import hashed_file
from ingest.manifest_parts import (
    SCHEMA,
    ManifestDamaged,
    Row,
    batch_of,
    decode_part,
    encode_part,
    folder,
    garbled_parts,
    listed_parts,
    part_key,
    parts_folder,
    put_small,
    read_parts,
    write_part,
)
from ingest.manifest_reading import (
    BATCHES_FIELD,
    ROWS_IN_GROUP,
    fetch,
    read_manifest,
    result_rows,
    stored_objects,
)
from ingest.markers import DUPLICATE_OF
from ingest.stores.base import ObjectMeta, Store

__all__ = [
    "SCHEMA",
    "Committed",
    "ManifestDamaged",
    "Row",
    "Steps",
    "checksum_line",
    "complete",
    "decode_part",
    "encode_part",
    "folder",
    "part_key",
    "parts_folder",
    "read_manifest",
    "read_parts",
    "result_rows",
    "stored_objects",
    "write_part",
]

PACKED_AT_ONCE = 256
"""A table takes 25 kB beside its rows: of batches of one file each, a row group of them would be gigabytes."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A job's batches, all of them committed.

    Attributes:
        job_id: the job's.
        batches: how many there are, numbered from 0.
        tokens: gives (batch, the token of the part that was committed), in the order of batches; called several times.
    """

    job_id: str
    batches: int
    tokens: Callable[[], Iterable[tuple[int, str]]]


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done beside while a manifest is made.

    Attributes:
        look: called with a local copy of the manifest before that is stored; raises where it must not be.
        check: called before each write; raises where the job is not to be completed any more.
        finish: called with a local copy of the manifest when that is stored, and before ``job.json`` is; what else
            ``job.json`` should say.
    """

    look: Callable[[Path], None] = lambda manifest: None
    check: Callable[[], None] = lambda: None
    finish: Callable[[Path], Mapping[str, Any]] = lambda manifest: {}


def complete(
    store: Store,
    committed: Committed,
    summary: Mapping[str, Any],
    scratch_dir: Path,
    steps: Steps,
    prefix: str = "",
) -> None:
    """Make a job's manifest, then delete the parts. May be repeated.

    A manifest that is there from before (the job was completed, then retried, or Redis forgot that it was) is gone on
    from: a batch that has a part now stands anew. Memory does not grow with the items: a byte is held for each batch.

    Args:
        summary: what ``job.json`` says, beside what ``steps.finish`` adds.
        prefix: what keys below the destination begin with in the bucket.

    Raises:
        ManifestDamaged: a part, or the manifest from before, is missing, truncated or garbled; nothing was deleted.
    """
    job_id, batches = committed.job_id, committed.batches
    with TemporaryDirectory(dir=scratch_dir, prefix="manifest-") as scratch:
        parquet, sums = Path(scratch, "manifest.parquet"), Path(scratch, "manifest-sha256.txt")
        before = fetch(store, job_id, Path(scratch, "before.parquet"))
        anew = _with_part(store, committed)
        missing = anew.find(0, before.batches if before else 0)
        if missing >= 0:
            token = next((token for batch, token in committed.tokens() if batch == missing), "unknown")
            raise ManifestDamaged(f"the manifest part {part_key(job_id, missing, token)} is missing")
        kept = _without(before.tables(), anew) if before else ()
        parts = read_parts(store, job_id, (part for part in committed.tokens() if anew[part[0]]))
        _write(itertools.chain(kept, parts), batches, parquet, sums, prefix)
        steps.look(parquet)
        steps.check()
        put_local(store, f"{folder(job_id)}manifest.parquet", parquet, "application/vnd.apache.parquet")
        put_local(store, f"{folder(job_id)}manifest-sha256.txt", sums, "text/plain; charset=utf-8")
        summary = {**summary, **steps.finish(parquet)}
    steps.check()
    body = json.dumps(summary, indent=2, ensure_ascii=True).encode() + b"\n"
    put_small(store, f"{folder(job_id)}job.json", body, "application/json")
    store.delete(key for key in listed_parts(store, job_id) if batch_of(key) < batches)


def _with_part(store: Store, committed: Committed) -> bytearray:
    """For each batch a byte: 1 where the part that was committed is there. Both sides come in order of their keys."""
    found = bytearray(committed.batches)
    there = listed_parts(store, committed.job_id)
    key = next(there, None)
    for batch, token in committed.tokens():
        wanted = part_key(committed.job_id, batch, token)
        while key is not None and key < wanted:
            key = next(there, None)
        found[batch] = key == wanted
    return found


def damaged(store: Store, committed: Committed, scratch_dir: Path) -> list[int]:
    """The batches whose part is missing, truncated or garbled, by reading all parts; arguments as :func:`complete`."""
    with TemporaryDirectory(dir=scratch_dir, prefix="manifest-") as scratch:
        before = fetch(store, committed.job_id, Path(scratch, "before.parquet"))
        held = before.batches if before else 0
    found = _with_part(store, committed)
    missing = [batch for batch in range(held, committed.batches) if not found[batch]]
    there = (part for part in committed.tokens() if found[part[0]])
    return sorted([*missing, *garbled_parts(store, committed.job_id, there)])


def _without(tables: Iterable[pa.Table], left_out: bytearray) -> Iterator[pa.Table]:
    """The rows of those batches that are not marked."""
    for table in tables:
        held = [number or 0 for number in table["batch"].unique().to_pylist()]
        marked = [number for number in held if number < len(left_out) and left_out[number]]
        yield table.filter(pc.invert(pc.is_in(table["batch"], value_set=pa.array(marked, pa.int64()))))


def put_local(store: Store, key: str, path: Path, content_type: str) -> None:
    """Store one of our own files. May be repeated."""
    sha256, _ = hashed_file(path)
    store.put_file(key, path, ObjectMeta(sha256, content_type))


def _write(tables: Iterable[pa.Table], batches: int, parquet: Path, sums: Path, prefix: str) -> None:
    schema = SCHEMA.with_metadata({BATCHES_FIELD: str(batches).encode()})
    with (
        pq.ParquetWriter(parquet, schema, compression="zstd", write_page_checksum=True) as writer,
        sums.open("wb") as text,
    ):
        for table in _grouped(tables, schema):
            text.write(_checksum_lines(_with_objects(table, prefix)))
            writer.write_table(table)


def _grouped(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows in fewer, larger tables; at least one."""
    packed: list[pa.Table] = []
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        if len(waiting) == PACKED_AT_ONCE:
            packed.append(_joined(waiting, schema).combine_chunks())
            waiting = []
        if rows >= ROWS_IN_GROUP:
            yield _joined([*packed, *waiting], schema)
            packed, waiting, rows = [], [], 0
    yield _joined([*packed, *waiting], schema)


def _with_objects(table: pa.Table, prefix: str) -> pa.Table:
    """Key and SHA-256 of the objects that have the rows' bytes. Those outside the destination are left out."""
    lookup: Any = pc.map_lookup  # its stubs want arrays alone
    duplicate_of = lookup(table["metadata"], pa.scalar(DUPLICATE_OF), "first")
    if duplicate_of.null_count == len(table):
        return table.select(["key", "sha256"])
    below = pc.if_else(
        pc.starts_with(duplicate_of, prefix),
        pc.utf8_slice_codeunits(duplicate_of, len(prefix)),
        pa.scalar(None, pa.string()),
    )
    keys = pc.if_else(pc.is_null(duplicate_of), table["key"], below)
    found = pa.table({"key": keys, "sha256": table["sha256"]})
    return (
        found.filter(pc.is_valid(found["key"])).group_by(["key", "sha256"], use_threads=False).aggregate([])
    )


def _checksum_lines(table: pa.Table) -> bytes:
    """A line for each row. Nearly no key needs an escape, and such tables are joined without a look at each row."""
    escaped = pc.match_substring_regex(table["key"], r"[\\\n\r]")
    if pc.any(escaped).as_py():
        pairs = zip(table["sha256"].to_pylist(), table["key"].to_pylist(), strict=True)
        return "".join(checksum_line(str(sha256), str(key)) for sha256, key in pairs).encode()
    join: Any = pc.binary_join_element_wise  # its stubs want arrays alone
    lines = join(table["sha256"], "  ", table["key"], "\n", "")
    return "".join(lines.to_pylist()).encode()


def _joined(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    if not tables:
        return schema.empty_table()
    return pa.concat_tables(tables).unify_dictionaries().replace_schema_metadata(schema.metadata)


def checksum_line(sha256: str, key: str) -> str:
    """A line as GNU coreutils' ``sha256sum -c`` reads it: a name with a newline or backslash is escaped."""
    escaped = key.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{chr(92) if escaped != key else ''}{sha256}  {escaped}\n"
