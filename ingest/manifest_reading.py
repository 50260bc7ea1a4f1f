"""Reading a job's manifest: in bounded memory, and saying so where it is damaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.errors import ObjectMissing
from ingest.manifest_parts import SCHEMA, ManifestDamaged, decode_part, folder, kept_inside, listed_parts
from ingest.stores.base import Store

BATCHES_FIELD = b"ingest.batches"
ROWS_IN_GROUP = 128 * 1024
ROWS_AT_ONCE = 4096


class Manifest:
    """A local copy of a job's manifest.

    Raises:
        ManifestDamaged: it is truncated or garbled, as far as can be seen before its rows are read.
    """

    def __init__(self, path: Path, job_id: str) -> None:
        self._name = f"{folder(job_id)}manifest.parquet"
        with self._damage():
            self._file = pq.ParquetFile(path, page_checksum_verification=True)

    @property
    def batches(self) -> int:
        """How many batches it holds: those with a smaller number."""
        metadata = self._file.schema_arrow.metadata or {}
        with self._damage():
            return int(metadata.get(BATCHES_FIELD, b"0"))

    def tables(self) -> Iterator[pa.Table]:
        """Its rows, some at once.

        Raises:
            ManifestDamaged: they are garbled.
        """
        left = self._file.metadata.num_rows
        with self._damage():
            for batch in self._file.iter_batches(ROWS_IN_GROUP):
                table = pa.Table.from_batches([batch]).cast(SCHEMA)
                table.validate(full=True)
                left -= len(table)
                yield kept_inside(table, f"the manifest {self._name}")
            if left:  # no checksum protects what says where the rows are
                raise ValueError(f"{left} rows are missing")

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """What is wrong with the bytes, as our error: pyarrow raises OSError for that too, without a number."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise ManifestDamaged(
                f"the manifest {self._name} is truncated or garbled",
                hint="create the job again: what is stored is skipped",
            ) from error


def fetch(store: Store, job_id: str, path: Path) -> Manifest | None:
    """The manifest that the store holds, as a local copy at ``path``, or None.

    Raises:
        ManifestDamaged: see :class:`Manifest`.
    """
    try:
        with path.open("wb") as file:
            file.writelines(store.read(f"{folder(job_id)}manifest.parquet"))
    except ObjectMissing:
        return None
    return Manifest(path, job_id)


def stored_objects(store: Store, job_id: str, scratch_dir: Path) -> Iterator[tuple[str, str]]:
    """Key and SHA-256 of what a job stored and did not find, by its parts and, where it was completed, its manifest.

    Raises:
        ManifestDamaged: the manifest, or a part, is truncated or garbled.
    """
    for table in tables_so_far(store, job_id, scratch_dir):
        yield from _objects_stored(table)


def tables_so_far(store: Store, job_id: str, scratch_dir: Path) -> Iterator[pa.Table]:
    """All rows that a job has written: its manifest's, where it was completed, and those of its parts.

    Raises:
        ManifestDamaged: the manifest, or a part, is truncated or garbled.
    """
    with TemporaryDirectory(dir=scratch_dir, prefix="manifest-") as scratch:
        before = fetch(store, job_id, Path(scratch, "manifest.parquet"))
        yield from before.tables() if before else ()
    for key in listed_parts(store, job_id):
        yield decode_part(store.read_bytes(key), key)


def _objects_stored(table: pa.Table) -> list[tuple[str, str]]:
    rows = table.select(["key", "sha256", "status"]).to_pylist()
    return [(row["key"], row["sha256"]) for row in rows if row["status"] == "stored"]


def read_manifest(
    store: Store, job_id: str, scratch_dir: Path, batches: int | None = None
) -> Iterator[Mapping[str, Any]]:
    """The manifest's rows, in bounded memory; ``mtime`` is in nanoseconds since 1970 UTC, as in :class:`Row`.

    Args:
        batches: how many the job has, where that is known: one from before it was retried has fewer.

    Raises:
        ObjectMissing: the job is not completed.
        ManifestDamaged: the manifest is truncated or garbled, or not of all of the job.
    """
    with TemporaryDirectory(dir=scratch_dir, prefix="manifest-") as scratch:
        manifest = fetch(store, job_id, Path(scratch, "manifest.parquet"))
        if manifest is None:
            raise ObjectMissing(f"{store.url} has no manifest of job {job_id}")
        if batches not in (None, manifest.batches):
            raise ManifestDamaged(
                f"{folder(job_id)}manifest.parquet has {manifest.batches} of the job's {batches} batches: "
                "it is not the one that was written last",
                hint="put that back where there is a copy, a newer version in the bucket say",
            )
        for table in manifest.tables():
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
