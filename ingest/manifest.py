"""The manifest: what was stored, beside the data, in ``<destination>/.ingest/<job>/``.

While the job runs, each batch writes a part before it is committed. At completion the parts become
``manifest.parquet``, ``manifest-sha256.txt`` (as ``sha256sum -c`` reads it, from the root of a downloaded
copy) and ``job.json``. Every step may be repeated: the manifest notes which batches it holds.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.digests import hashed_file
from ingest.errors import ObjectMissing
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
from ingest.markers import DUPLICATE_OF
from ingest.stores.base import ObjectMeta, Store

__all__ = [
    "SCHEMA",
    "ManifestDamaged",
    "Row",
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

BATCHES_FIELD = b"ingest.batches"
ROWS_IN_GROUP = 128 * 1024
ROWS_AT_ONCE = 4096


def complete(
    store: Store,
    job_id: str,
    batches: int,
    tokens: Callable[[], Iterable[tuple[int, str]]],
    summary: Mapping[str, Any],
    scratch_dir: Path,
    check: Callable[[], None] = lambda: None,
    finish: Callable[[Path], Mapping[str, Any]] = lambda manifest: {},
    prefix: str = "",
    look: Callable[[Path], None] = lambda manifest: None,
) -> None:
    """Make the manifest of a job whose ``batches`` are all committed, then delete the parts. May be repeated.

    A manifest that is there from before (the job was completed, then retried, or Redis forgot that it was) is gone on
    from: a batch that has a part now stands anew. Memory does not grow with the items: a byte is held for each batch.

    Args:
        tokens: gives (batch, the token of the part that was committed), in the order of batches; called twice.
        check: called before each write; raises where the job is not to be completed any more.
        finish: called with a local copy of the manifest when that is stored, and before ``job.json`` is; what else
            ``job.json`` should say.
        prefix: what keys below the destination begin with in the bucket.
        look: called with a local copy of the manifest before that is stored; raises where it must not be.

    Raises:
        ManifestDamaged: a part is missing, truncated or garbled; nothing was deleted.
    """
    with TemporaryDirectory(dir=scratch_dir, prefix="manifest-") as scratch:
        parquet, sums = Path(scratch, "manifest.parquet"), Path(scratch, "manifest-sha256.txt")
        before = _fetch(store, job_id, Path(scratch, "before.parquet"))
        anew = _with_part(store, job_id, batches, tokens())
        missing = anew.find(0, _batches_held(before) if before else 0)
        if missing >= 0:
            token = next((token for batch, token in tokens() if batch == missing), "unknown")
            raise ManifestDamaged(f"the manifest part {part_key(job_id, missing, token)} is missing")
        kept = _without(_tables(before), anew) if before else ()
        parts = read_parts(store, job_id, (part for part in tokens() if anew[part[0]]))
        _write(itertools.chain(kept, parts), batches, parquet, sums, prefix)
        look(parquet)
        check()
        put_local(store, f"{folder(job_id)}manifest.parquet", parquet, "application/vnd.apache.parquet")
        put_local(store, f"{folder(job_id)}manifest-sha256.txt", sums, "text/plain; charset=utf-8")
        summary = {**summary, **finish(parquet)}
    check()
    body = json.dumps(summary, indent=2, ensure_ascii=True).encode() + b"\n"
    put_small(store, f"{folder(job_id)}job.json", body, "application/json")
    store.delete(key for key in listed_parts(store, job_id) if batch_of(key) < batches)


def _with_part(store: Store, job_id: str, batches: int, tokens: Iterable[tuple[int, str]]) -> bytearray:
    """For each batch a byte: 1 where the part that was committed is there. Both sides come in order of their keys."""
    found = bytearray(batches)
    there = listed_parts(store, job_id)
    key = next(there, None)
    for batch, token in tokens:
        wanted = part_key(job_id, batch, token)
        while key is not None and key < wanted:
            key = next(there, None)
        found[batch] = key == wanted
    return found


def damaged(
    store: Store,
    job_id: str,
    batches: int,
    tokens: Callable[[], Iterable[tuple[int, str]]],
    scratch_dir: Path,
) -> list[int]:
    """The batches whose part is missing, truncated or garbled, by reading all parts; arguments as :func:`complete`."""
    with TemporaryDirectory(dir=scratch_dir, prefix="manifest-") as scratch:
        before = _fetch(store, job_id, Path(scratch, "before.parquet"))
        held = _batches_held(before) if before else 0
    found = _with_part(store, job_id, batches, tokens())
    missing = [batch for batch in range(held, batches) if not found[batch]]
    there = (part for part in tokens() if found[part[0]])
    return sorted([*missing, *garbled_parts(store, job_id, there)])


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


def _fetch(store: Store, job_id: str, path: Path) -> pq.ParquetFile | None:
    """A local copy of the manifest that the store holds, or None."""
    with suppress(ObjectMissing):
        with path.open("wb") as file:
            for piece in store.read(f"{folder(job_id)}manifest.parquet"):
                file.write(piece)
        try:
            return pq.ParquetFile(path)
        except pa.ArrowInvalid:
            raise ManifestDamaged(
                f"the manifest {folder(job_id)}manifest.parquet is truncated or garbled",
                hint="create the job again: what is stored is skipped",
            ) from None
    return None


def _batches_held(manifest: pq.ParquetFile) -> int:
    metadata = manifest.schema_arrow.metadata or {}
    return int(metadata.get(BATCHES_FIELD, b"0"))


def _tables(manifest: pq.ParquetFile) -> Iterator[pa.Table]:
    for batch in manifest.iter_batches(ROWS_IN_GROUP):
        yield pa.Table.from_batches([batch]).cast(SCHEMA)


def _write(tables: Iterable[pa.Table], batches: int, parquet: Path, sums: Path, prefix: str) -> None:
    schema = SCHEMA.with_metadata({BATCHES_FIELD: str(batches).encode()})
    with pq.ParquetWriter(parquet, schema, compression="zstd") as writer, sums.open("wb") as text:
        for table in _grouped(tables, schema):
            text.write(_checksum_lines(_with_objects(table, prefix)))
            writer.write_table(table)


def _grouped(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows in fewer, larger tables; at least one."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        if rows >= ROWS_IN_GROUP:
            yield _joined(waiting, schema)
            waiting, rows = [], 0
    yield _joined(waiting, schema)


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


def stored_objects(store: Store, job_id: str, scratch_dir: Path) -> Iterator[tuple[str, str]]:
    """Key and SHA-256 of what a job stored and did not find, by its parts and, where it was completed, its manifest.

    Raises:
        ManifestDamaged: a part is truncated or garbled.
    """
    with TemporaryDirectory(dir=scratch_dir, prefix="manifest-") as scratch:
        before = _fetch(store, job_id, Path(scratch, "manifest.parquet"))
        for table in _tables(before) if before else ():
            yield from _objects_stored(table)
    for key in listed_parts(store, job_id):
        yield from _objects_stored(decode_part(store.read_bytes(key), key))


def _objects_stored(table: pa.Table) -> list[tuple[str, str]]:
    rows = table.select(["key", "sha256", "status"]).to_pylist()
    return [(row["key"], row["sha256"]) for row in rows if row["status"] == "stored"]


def checksum_line(sha256: str, key: str) -> str:
    """A line as GNU coreutils' ``sha256sum -c`` reads it: a name with a newline or backslash is escaped."""
    escaped = key.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{chr(92) if escaped != key else ''}{sha256}  {escaped}\n"


def read_manifest(store: Store, job_id: str, scratch_dir: Path) -> Iterator[Mapping[str, Any]]:
    """The manifest's rows, in bounded memory; ``mtime`` is in nanoseconds since 1970 UTC, as in :class:`Row`.

    Raises:
        ObjectMissing: the job is not completed.
    """
    with TemporaryDirectory(dir=scratch_dir, prefix="manifest-") as scratch:
        manifest = _fetch(store, job_id, Path(scratch, "manifest.parquet"))
        if manifest is None:
            raise ObjectMissing(f"{store.url} has no manifest of job {job_id}")
        for table in _tables(manifest):
            yield from _rows(table)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    """A table's rows, with times in nanoseconds, which a datetime cannot hold."""
    place = SCHEMA.get_field_index("mtime")
    return table.set_column(place, "mtime", table["mtime"].cast(pa.int64())).to_pylist()


def result_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a local manifest, in small pieces; ``metadata`` is a dictionary."""
    with pq.ParquetFile(path) as manifest:
        for batch in manifest.iter_batches(ROWS_AT_ONCE):
            for row in _rows(pa.Table.from_batches([batch]).cast(SCHEMA)):
                yield {**row, "metadata": dict(row["metadata"] or ())}
