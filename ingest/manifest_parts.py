"""Manifest parts: what each batch writes beside the data before it is committed."""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from ingest.errors import IngestError, ObjectMissing
from ingest.stores.base import INTERNAL, ObjectMeta, Store

_FIELDS: list[pa.Field[Any]] = [
    pa.field("batch", pa.int64(), nullable=False),
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

Read = TypeVar("Read")
_PART_NAME = re.compile(r"\d{10}-\w+\.arrow\.zst")
_ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")

_LATEST_NS = 2**63 - 1
READERS = 16
LISTED_AT_ONCE = 1000  # by an S3 server
ZSTD_LEVEL = 1


class ManifestDamaged(IngestError):
    """A manifest, or a part of one, is missing, truncated or garbled at the destination."""

    exit_code = 6


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
    return f"{INTERNAL}{job_id}/"


def parts_folder(job_id: str) -> str:
    """The key prefix of a job's manifest parts."""
    return f"{folder(job_id)}parts/"


def part_key(job_id: str, batch: int, token: str) -> str:
    """The key of a batch's part. The token is an attempt's own: one that lost its lease overwrites no other's part."""
    return f"{parts_folder(job_id)}{batch:010d}-{token}.arrow.zst"


def batch_of(key: str) -> int:
    """The batch that a part's key names."""
    return int(key.rpartition("/")[2].partition("-")[0])


def encode_part(batch: int, rows: Iterable[Row]) -> bytes:
    """A part: an Arrow IPC stream, compressed as one piece with zstd, then the SHA-256 of that (32 bytes)."""
    listed = list(rows)
    arrays = [_array(name, batch, listed) for name in SCHEMA.names]
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_table(pa.table(arrays, schema=SCHEMA))
    body = zstandard.compress(sink.getvalue(), ZSTD_LEVEL)
    return body + hashlib.sha256(body).digest()


def _array(name: str, batch: int, rows: list[Row]) -> Any:
    kind = SCHEMA.field(name).type
    if name == "batch":
        return pa.array([batch] * len(rows), kind)
    if name == "metadata":
        return pa.array(
            [[(fact, as_text(value)) for fact, value in row.metadata.items()] for row in rows], kind
        )
    values = [getattr(row, name) for row in rows]
    if name == "mtime":
        return pa.array([as_time(value) for value in values], kind)
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array([as_text(value) for value in values], kind)


def as_time(time_ns: int | None) -> int | None:
    """A time, in nanoseconds since 1970 UTC, where the manifest can hold it: between 1678 and 2262. Else None."""
    return time_ns if time_ns is not None and -_LATEST_NS <= time_ns <= _LATEST_NS else None


def as_text(value: Any) -> Any:
    """Names that are not UTF-8 in a form that is; keys and `source_path` have ``%`` and two digits a byte."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def as_path(text: str) -> str:
    """The path that :func:`as_text` made this of, where it was not UTF-8."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def decode_part(data: bytes, name: str) -> pa.Table:
    """The rows of a part.

    Raises:
        ManifestDamaged: it is truncated or garbled, or not what a job writes.
    """
    body, digest = data[:-32], data[-32:]
    if len(data) <= 32 or hashlib.sha256(body).digest() != digest:
        raise ManifestDamaged(f"the manifest part {name} is truncated or garbled")
    try:
        table = pa.ipc.open_stream(zstandard.decompress(body)).read_all().cast(SCHEMA)
    except (pa.ArrowException, zstandard.ZstdError, ValueError) as error:
        raise ManifestDamaged(f"the manifest part {name} is none: {error}") from error
    return kept_inside(table, f"the manifest part {name}")


def kept_inside(table: pa.Table, name: str) -> pa.Table:
    """The table itself, where every key of it stays in the destination: others may write there, too.

    Raises:
        ManifestDamaged: one does not.
    """
    dotted = pc.match_substring(table["key"], "..")
    for key in table.filter(dotted)["key"].to_pylist() if pc.any(dotted).as_py() else ():
        if ".." in str(key).split("/"):
            raise ManifestDamaged(f"{name} names {key!r}, which is not in the destination")
    return table


def put_small(store: Store, key: str, body: bytes, content_type: str) -> None:
    """Store one of our own small objects. May be repeated."""
    store.put(key, body, ObjectMeta(hashlib.sha256(body).hexdigest(), content_type))


def write_part(store: Store, job_id: str, batch: int, token: str, rows: Iterable[Row]) -> None:
    """Store the part of an attempt at a batch. May be repeated."""
    key = part_key(job_id, batch, token)
    put_small(store, key, encode_part(batch, rows), "application/zstd")


def read_parts(store: Store, job_id: str, parts: Iterable[tuple[int, str]]) -> Iterator[pa.Table]:
    """The parts of these batches, by their tokens, in order, read a few at a time.

    Raises:
        ManifestDamaged: one is missing, truncated or garbled.
    """

    def read(part: tuple[int, str]) -> pa.Table:
        return _read_part(store, part_key(job_id, *part))

    yield from _each(read, parts)


def _each(read: Callable[[tuple[int, str]], Read], parts: Iterable[tuple[int, str]]) -> Iterator[Read]:
    """What ``read`` makes of each part, in order, some of them ahead."""
    wanted = iter(parts)
    ahead = list(itertools.islice(wanted, 4 * READERS))
    # To start a thread takes as long as to read some parts.
    with ThreadPoolExecutor(max(1, min(READERS, len(ahead) // 8)), "manifest") as readers:
        while ahead:
            yield from readers.map(read, ahead)
            ahead = list(itertools.islice(wanted, 4 * READERS))


def listed_parts(store: Store, job_id: str) -> Iterator[str]:
    """The keys of a job's parts that are there, in order; of any attempt. What else lies there is passed over."""
    folder = parts_folder(job_id)
    after: str | None = None
    while True:
        page = store.first_listed(folder, after, LISTED_AT_ONCE)
        yield from (info.key for info in page if _PART_NAME.fullmatch(info.key, len(folder)))
        if len(page) < LISTED_AT_ONCE:
            return
        after = page[-1].key


def _read_part(store: Store, key: str) -> pa.Table:
    try:
        return decode_part(store.read_bytes(key), key)
    except ObjectMissing:
        raise ManifestDamaged(f"the manifest part {key} is missing") from None


def garbled_parts(store: Store, job_id: str, parts: Iterable[tuple[int, str]]) -> list[int]:
    """The batches of those parts that cannot be read."""

    def garbled(part: tuple[int, str]) -> int | None:
        try:
            _read_part(store, part_key(job_id, *part))
        except ManifestDamaged:
            return part[0]
        return None

    return [batch for batch in _each(garbled, parts) if batch is not None]
