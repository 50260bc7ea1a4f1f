"""What was there before the job: a listing with an MD5 proves it equal, and nothing less does."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.errors import KeyConflict
from ingest.stores.base import ObjectInfo, Store
from ingest.stores.wrapping import WrappedStore
from ingest.workers import uploader
from ingest.workers.batch import do_batch
from tests.workers.making import bench, local_store

JOB_BEGAN_S = 1000.0
OLD_S, NEW_S = 999.0, 1000.0


class Listing(WrappedStore):
    """A folder whose listing gives ETags and times, as S3's does; it counts what else it is asked."""

    def __init__(self, store: Store, modified_s: float | None, etag: str | None = None) -> None:
        super().__init__(store)
        self.modified_s = modified_s
        self.etag = etag
        self.asked = 0

    def first_listed(self, prefix: str, after: str | None, limit: int) -> list[ObjectInfo]:
        page = self._store.first_listed(prefix, after, limit)
        return [replace(info, etag=self._etag(info.key), modified_s=self.modified_s) for info in page]

    def _etag(self, key: str) -> str:
        return self.etag or hashlib.md5(self.read_bytes(key)).hexdigest()

    def stat(self, key: str) -> ObjectInfo | None:
        self.asked += 1
        return self._store.stat(key)


def there_before(folder: Path, content: bytes) -> None:
    (folder / "stored").mkdir()
    (folder / "stored" / "a.bin").write_bytes(content)


def test_equal_files_are_skipped_by_the_listing_alone(tmp_path: Path) -> None:
    there_before(tmp_path, b"content")
    store = Listing(local_store(tmp_path / "stored"), OLD_S)
    with bench(tmp_path, store, older_than_s=JOB_BEGAN_S) as b:
        b.put("a.bin")
        result = do_batch(b.batch(), b.kit)
    assert (result.counters["skipped"], result.counters["done"], result.failures) == (1, 0, {})
    assert [(entry.sha256, entry.etag) for entry in result.rows] == [
        (hashlib.sha256(b"content").hexdigest(), hashlib.md5(b"content").hexdigest())
    ]
    assert store.asked == 0


@pytest.mark.parametrize(
    ("modified_s", "etag", "older_than_s", "content"),
    [
        (NEW_S, None, JOB_BEGAN_S, b"content"),  # perhaps this job's own, stored by another node
        (None, None, JOB_BEGAN_S, b"content"),
        (OLD_S, "0" * 32 + "-2", JOB_BEGAN_S, b"content"),  # a multipart upload's
        (OLD_S, None, None, b"content"),  # its ETags are no MD5s
        (OLD_S, None, JOB_BEGAN_S, b""),  # an empty one may stand for a folder
    ],
)
def test_where_the_listing_proves_nothing_the_store_is_asked(
    tmp_path: Path, modified_s: float | None, etag: str | None, older_than_s: float | None, content: bytes
) -> None:
    there_before(tmp_path, content)
    store = Listing(local_store(tmp_path / "stored"), modified_s, etag)
    with bench(tmp_path, store, older_than_s=older_than_s) as b:
        b.put("a.bin", content)
        result = do_batch(b.batch(), b.kit)
    assert (result.counters["skipped"], result.failures) == (1, {})
    assert store.asked == 1


@pytest.mark.parametrize(
    ("on_existing", "there"),
    [("skip", b"another"), ("skip", b"content, and more"), ("fail", b"content")],
)
def test_other_content_or_none_wanted_is_a_conflict_still(
    tmp_path: Path, on_existing: str, there: bytes
) -> None:
    there_before(tmp_path, there)
    store = Listing(local_store(tmp_path / "stored"), OLD_S)
    with bench(tmp_path, store, on_existing=on_existing, older_than_s=JOB_BEGAN_S) as b:
        b.put("a.bin")
        result = do_batch(b.batch(), b.kit)
        assert b.objects() == {"a.bin": there}
    assert [failure.error for failure in result.failures.values()] == [KeyConflict.__name__]


def test_a_slow_source_is_read_by_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[str] = []

    def slowly(path: Path, size_bytes: int) -> bytes:
        readers.append(threading.current_thread().name)
        time.sleep(0.03)
        return path.read_bytes()

    monkeypatch.setattr(uploader, "read_steady", slowly)
    names = [f"{number}.bin" for number in range(6)]
    (tmp_path / "stored").mkdir()
    for name in names:
        (tmp_path / "stored" / name).write_bytes(b"content")
    store = Listing(local_store(tmp_path / "stored"), OLD_S)
    with bench(tmp_path, store, older_than_s=JOB_BEGAN_S) as b:
        for name in names:
            b.put(name)
        result = do_batch(b.batch(), b.kit)
    assert (result.counters["skipped"], result.failures) == (6, {})
    here = threading.current_thread().name
    assert readers[0] == here
    assert here not in readers[2:]
