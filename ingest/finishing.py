"""Running a job's finishers: what they make of its results is stored beside the data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.config import checked_key
from ingest.digests import hashed, hashed_body
from ingest.errors import IngestError, JobError, ObjectMissing, RedisError, Stopped, StoreError
from ingest.ledger import Ledger
from ingest.manifest import result_rows
from ingest.markers import object_key
from ingest.processors import Addition, Finisher, Result
from ingest.stores.base import ObjectMeta, Store

log = logging.getLogger(__name__)

NOT_THE_FINISHERS = (StoreError, RedisError, JobError, Stopped)


class ManifestResults:
    """A job's :class:`ingest.processors.Results`, from a local copy of its manifest."""

    def __init__(
        self, store: Store, manifest: Path, scratch_dir: Path, failed_items: int, prefix: str = ""
    ) -> None:
        self.failed_items = failed_items
        self._prefix = prefix
        self._store = store
        self._manifest = manifest
        self._scratch_dir = scratch_dir

    def rows(self) -> Iterator[Result]:
        """See :meth:`ingest.processors.Results.rows`."""
        for row in result_rows(self._manifest):
            yield Result(
                **{name: row[name] for name in Result.__dataclass_fields__ if name in row},
                mtime_ns=row["mtime"],
            )

    def object_key(self, row: Result) -> str | None:
        """See :meth:`ingest.processors.Results.object_key`."""
        key = object_key(row.key, row.metadata, self._prefix)
        return key.removeprefix(self._prefix) if key.startswith(self._prefix) else None

    def stored(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See :meth:`ingest.processors.Results.stored`."""
        return ((info.key, info.size_bytes) for info in self._store.list(prefix))

    def sha256(self, key: str) -> str:
        """See :meth:`ingest.processors.Results.sha256`."""
        info = self._store.stat(key)
        if info is None:
            raise _gone(key)
        return info.sha256 or hashed(self._store.read(key))[0]

    @contextmanager
    def open(self, key: str) -> Iterator[Path]:
        """See :meth:`ingest.processors.Results.open`."""
        with TemporaryDirectory(dir=self._scratch_dir, prefix="result-") as folder:
            path = Path(folder, "object" + Path(key).suffix)
            try:
                with path.open("wb") as file:
                    file.writelines(self._store.read(key))
            except ObjectMissing as error:
                raise _gone(key) from error
            yield path

    def has(self, key: str) -> bool:
        """Whether a data object has this key."""
        with pq.ParquetFile(self._manifest) as table:
            keys = (batch["key"] for batch in table.iter_batches(columns=["key"]))
            return any(pc.any(pc.equal(some, pa.scalar(key))).as_py() for some in keys)


def _gone(key: str) -> IngestError:
    return IngestError(f"{key!r} is in the manifest, and not at the destination any more")


class Finishing:
    """Stores a job's additions. May be repeated: each is overwritten.

    Args:
        check: called before each addition is stored; raises where the job is not to be completed any more.
    """

    def __init__(self, store: Store, ledger: Ledger, check: Callable[[], None]) -> None:
        self._store = store
        self._ledger = ledger
        self._check = check

    def run(self, finishers: Iterable[Finisher[Any]], results: ManifestResults) -> list[dict[str, Any]]:
        """Run the finishers, one after the other; what they stored, as ``job.json`` lists it.

        Raises:
            StoreError: the destination is away.
            IngestError: a finisher failed, or wants a key that is taken; the sentence says which.
        """
        whose: dict[str, str] = {}
        stored = []
        for finisher in finishers:
            name = type(finisher).__name__
            try:
                for addition in finisher.additions(results):
                    self._refuse_taken(addition.key, name, whose, results)
                    stored.append({"finisher": name, **self._put(addition)})
            except NOT_THE_FINISHERS:
                raise
            except Exception as error:
                log.exception("the finisher %s failed", name)
                reason = error.what if isinstance(error, IngestError) else repr(error)
                raise IngestError(f"the finisher {name} failed: {reason}") from error
        return stored

    def _refuse_taken(self, key: str, name: str, whose: dict[str, str], results: ManifestResults) -> None:
        checked_key(key)
        self._store.check_key(key)
        if key in whose:
            raise IngestError(f"the key {key!r} is taken by {whose[key]}")
        if results.has(key):
            raise IngestError(f"the key {key!r} is a data object's")
        if self._store.capabilities.metadata:
            info = self._store.stat(key)
            if info is not None and "ingest-item" in info.metadata:
                raise IngestError(f"the key {key!r} is a data object's of another job")
        whose[key] = name

    def _put(self, addition: Addition) -> dict[str, Any]:
        body, key = addition.body, addition.key
        self._check()
        sha256, size_bytes = hashed_body(body)
        self._ledger.note_addition(key)
        meta = ObjectMeta(sha256, addition.content_type, {"ingest-addition": self._ledger.job_id})
        if isinstance(body, bytes):
            self._store.put(key, body, meta)
        else:
            self._store.put_file(key, body, meta)
        return {
            "key": key,
            "sha256": sha256,
            "size_bytes": size_bytes,
            "content_type": addition.content_type,
        }
