"""The manifest: what was stored, beside the data, in ``<destination>/.ingest/<job>/``.

While the job runs, each batch writes a part before it is committed. At completion the parts become
``manifest.parquet``, ``manifest-sha256.txt`` (as ``sha256sum -c`` reads it, from the root of a downloaded
copy) and ``job.json``. Every step may be repeated: the manifest notes which batches it holds.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.errors import IngestError, ObjectMissing
from ingest.stores.base import ObjectMeta, Store

_FIELDS: list[pa.Field[Any]] = [
    pa.field("item", pa.string(), nullable=False),
    pa.field("source", pa.string()),
    pa.field("size_bytes", pa.int64()),
    pa.field("mtime", pa.timestamp("ns", "UTC")),
    pa.field("key", pa.string(), nullable=False),
    pa.field("stored_bytes", pa.int64(), nullable=False),
    pa.field("sha256", pa.string(), nullable=False),
    pa.field("etag", pa.string()),
    pa.field("content_type", pa.string()),
    pa.field("status", pa.dictionary(pa.int8(), pa.string()), nullable=False),
    pa.field("node", pa.dictionary(pa.int32(), pa.string())),
    pa.field("attempt", pa.int32()),
    pa.field("time", pa.timestamp("s", "UTC")),
    pa.field("metadata", pa.map_(pa.string(), pa.string())),
]
SCHEMA = pa.schema(_FIELDS)
"""The columns of ``manifest.parquet``: a row for each object that was stored, or was there already."""

BATCHES_FIELD = b"ingest.batches"
READERS = 16
ROWS_IN_GROUP = 128 * 1024


class ManifestDamaged(IngestError):
    """A manifest part is missing, truncated or garbled."""


@dataclass(frozen=True, slots=True)
class Row:
    """An object of the manifest. Times are UTC; sizes are bytes; ``status`` is ``stored`` or ``skipped``."""

    item: str
    source: str
    size_bytes: int | None
    mtime: int | None
    key: str
    stored_bytes: int
    sha256: str
    etag: str | None
    content_type: str
    status: str
    node: str
    attempt: int
    time: int
    metadata: Mapping[str, str] = field(default_factory=dict)


def folder(job_id: str) -> str:
    """The key prefix of a job's manifest."""
    return f".ingest/{job_id}/"


def part_key(job_id: str, batch: int) -> str:
    """The key of the part of one batch."""
    return f"{folder(job_id)}parts/{batch:08d}.arrow"


def encode_part(rows: Iterable[Row]) -> bytes:
    """A part: an Arrow IPC stream, then the SHA-256 of it (32 bytes, which Arrow's readers pass over)."""
    listed = list(rows)
    columns = {
        name: [[(fact, _text(value)) for fact, value in row.metadata.items()] for row in listed]
        if name == "metadata"
        else [_text(getattr(row, name)) for row in listed]
        for name in SCHEMA.names
    }
    table = pa.table(
        {name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}, SCHEMA
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    body = sink.getvalue()
    return body + hashlib.sha256(body).digest()


def _text(value: Any) -> Any:
    """Names that are not UTF-8 in a form that is; such an item never gets a key, but may be a source."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def decode_part(data: bytes, name: str) -> pa.Table:
    """The rows of a part.

    Raises:
        ManifestDamaged: it is truncated or garbled.
    """
    body, digest = data[:-32], data[-32:]
    if len(data) <= 32 or hashlib.sha256(body).digest() != digest:
        raise ManifestDamaged(f"the manifest part {name} is truncated or garbled")
    return pa.ipc.open_stream(body).read_all()


def put_small(store: Store, key: str, body: bytes, content_type: str) -> None:
    """Store one of our own small objects. May be repeated."""
    store.put(key, body, ObjectMeta(hashlib.sha256(body).hexdigest(), content_type))


def write_part(store: Store, job_id: str, batch: int, rows: Iterable[Row]) -> None:
    """Store the part of a batch. May be repeated."""
    put_small(store, part_key(job_id, batch), encode_part(rows), "application/vnd.apache.arrow.stream")


def read_parts(store: Store, job_id: str, batches: Iterable[int]) -> Iterator[pa.Table]:
    """The parts of these batches, in order, read a few at a time.

    Raises:
        ManifestDamaged: one is missing, truncated or garbled.
    """

    def read(batch: int) -> pa.Table:
        key = part_key(job_id, batch)
        try:
            return decode_part(store.read_bytes(key), key)
        except ObjectMissing:
            raise ManifestDamaged(f"the manifest part {key} is missing") from None

    with ThreadPoolExecutor(READERS, "manifest") as readers:
        wanted = iter(batches)
        while ahead := list(itertools.islice(wanted, 4 * READERS)):
            yield from readers.map(read, ahead)


def complete(store: Store, job_id: str, batches: int, summary: Mapping[str, Any], scratch_dir: Path) -> None:
    """Make the manifest of a job whose ``batches`` are all committed, then delete the parts. May be repeated.

    A manifest that is there from before (the job was completed, then retried) is gone on from.

    Raises:
        ManifestDamaged: a part is missing, truncated or garbled; nothing was deleted.
    """
    with TemporaryDirectory(dir=scratch_dir, prefix="manifest-") as scratch:
        parquet, sums = Path(scratch, "manifest.parquet"), Path(scratch, "manifest-sha256.txt")
        before = _fetch(store, job_id, Path(scratch, "before.parquet"))
        held = _batches_held(before) if before else 0
        tables = itertools.chain(
            _tables(before) if before else (), read_parts(store, job_id, range(held, batches))
        )
        _write(tables, batches, parquet, sums)
        put_local(store, f"{folder(job_id)}manifest.parquet", parquet, "application/vnd.apache.parquet")
        put_local(store, f"{folder(job_id)}manifest-sha256.txt", sums, "text/plain; charset=utf-8")
    body = json.dumps(summary, indent=2, ensure_ascii=True).encode() + b"\n"
    put_small(store, f"{folder(job_id)}job.json", body, "application/json")
    held_now = part_key(job_id, batches)
    store.delete(info.key for info in store.list(f"{folder(job_id)}parts/") if info.key < held_now)


def put_local(store: Store, key: str, path: Path, content_type: str) -> None:
    """Store one of our own files. May be repeated."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    store.put_file(key, path, ObjectMeta(sha256, content_type))


def _fetch(store: Store, job_id: str, path: Path) -> pq.ParquetFile | None:
    """A local copy of the manifest that the store holds, or None."""
    with suppress(ObjectMissing):
        with path.open("wb") as file:
            for piece in store.read(f"{folder(job_id)}manifest.parquet"):
                file.write(piece)
        return pq.ParquetFile(path)
    return None


def _batches_held(manifest: pq.ParquetFile) -> int:
    metadata = manifest.schema_arrow.metadata or {}
    return int(metadata.get(BATCHES_FIELD, b"0"))


def _tables(manifest: pq.ParquetFile) -> Iterator[pa.Table]:
    for batch in manifest.iter_batches(ROWS_IN_GROUP):
        yield pa.Table.from_batches([batch]).cast(SCHEMA)


def _write(tables: Iterable[pa.Table], batches: int, parquet: Path, sums: Path) -> None:
    schema = SCHEMA.with_metadata({BATCHES_FIELD: str(batches).encode()})
    with (
        pq.ParquetWriter(parquet, schema, compression="zstd") as writer,
        sums.open("w", encoding="utf-8") as text,
    ):
        waiting: list[pa.Table] = []
        rows = 0
        for table in tables:
            text.writelines(
                checksum_line(str(sha256), str(key))
                for sha256, key in zip(table["sha256"].to_pylist(), table["key"].to_pylist(), strict=True)
            )
            waiting.append(table)
            rows += len(table)
            if rows >= ROWS_IN_GROUP:
                writer.write_table(_joined(waiting, schema))
                waiting, rows = [], 0
        writer.write_table(_joined(waiting, schema))


def _joined(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    if not tables:
        return schema.empty_table()
    return pa.concat_tables(tables).unify_dictionaries().replace_schema_metadata(schema.metadata)


def stored_keys(store: Store, job_id: str, scratch_dir: Path) -> Iterator[str]:
    """The keys of what a job stored and did not find there, by its parts and, where it was completed, its manifest.

    Raises:
        ManifestDamaged: a part is truncated or garbled.
    """
    with TemporaryDirectory(dir=scratch_dir, prefix="manifest-") as scratch:
        before = _fetch(store, job_id, Path(scratch, "manifest.parquet"))
        for table in _tables(before) if before else ():
            yield from _keys_stored(table)
    for info in store.list(f"{folder(job_id)}parts/"):
        yield from _keys_stored(decode_part(store.read_bytes(info.key), info.key))


def _keys_stored(table: pa.Table) -> list[str]:
    rows = table.select(["key", "status"]).to_pylist()
    return [row["key"] for row in rows if row["status"] == "stored"]


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
            raise ObjectMissing(f"{store.url} has no manifest of job {job_id}", hint="is the job complete?")
        place = SCHEMA.get_field_index("mtime")
        for table in _tables(manifest):
            # A datetime cannot hold nanoseconds.
            yield from table.set_column(place, "mtime", table["mtime"].cast(pa.int64())).to_pylist()
