"""Retry and limits, around a store that does as it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.config import Destination
from ingest.errors import ChecksumMismatch, Stopped, StoreFull, StoreRefused, StoreUnreachable
from ingest.stores.base import ObjectInfo, ObjectMeta, Store, Stored, Transfer
from ingest.stores.limits import Bandwidth, LimitedStore
from ingest.stores.retry import RetryingStore
from ingest.stores.wrapping import WrappedStore
from tests.stores.helpers import keys, meta_of, probed, put


class Failing(WrappedStore):
    """Raises what it was given, first."""

    def __init__(self, store: Store, *errors: Exception) -> None:
        super().__init__(store)
        self.errors = [*errors]
        self.calls = 0

    def fail(self) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)

    def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
        self.fail()
        return super().put(key, body, meta, if_absent=if_absent)

    def stat(self, key: str) -> ObjectInfo | None:
        self.fail()
        return super().stat(key)

    def read(self, key: str) -> Iterator[bytes]:
        self.fail()
        yield from super().read(key)

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        for number, found in enumerate(super().list(prefix, after=after)):
            if number == 2:
                self.fail()
            yield found


@pytest.fixture
def local(tmp_path: Path) -> Store:
    """A store in a folder."""
    return probed(Destination(url=f"file://{tmp_path}/store"))


@pytest.mark.parametrize("error", [StoreUnreachable("gone"), ChecksumMismatch("other")])
def test_a_passing_fault_is_repeated_up_to_the_limit(local: Store, error: Exception) -> None:
    failing = Failing(local, error, error)
    put(RetryingStore(failing, 2, first_wait_s=0.01), "k", b"1")
    assert failing.calls == 3
    failing = Failing(local, *[error] * 3)
    with pytest.raises(type(error)):
        put(RetryingStore(failing, 2, first_wait_s=0.01), "k", b"1")
    assert failing.calls == 3


@pytest.mark.parametrize("error", [StoreRefused("no"), StoreFull("full"), Stopped("stop")])
def test_other_faults_are_not_repeated(local: Store, error: Exception) -> None:
    failing = Failing(local, error)
    with pytest.raises(type(error)):
        put(RetryingStore(failing, 5), "k")
    assert failing.calls == 1


def test_with_no_repeats_the_first_fault_is_raised(local: Store) -> None:
    with pytest.raises(StoreUnreachable):
        put(RetryingStore(Failing(local, StoreUnreachable("gone")), 0), "k")


def test_a_wait_is_interrupted(local: Store) -> None:
    began = time.monotonic()

    def check() -> None:
        if time.monotonic() - began > 0.3:
            raise Stopped("asked to stop")

    store = RetryingStore(Failing(local, *[StoreUnreachable("gone")] * 9), 9, check, first_wait_s=60)
    with pytest.raises(Stopped):
        put(store, "k")
    assert time.monotonic() - began < 5


def test_reads_and_lists_are_repeated_too(local: Store) -> None:
    for number in range(6):
        put(local, f"k{number}", b"1")
    gone = StoreUnreachable("gone")
    assert RetryingStore(Failing(local, gone), 1, first_wait_s=0.01).read_bytes("k1") == b"1"
    assert RetryingStore(Failing(local, gone), 1, first_wait_s=0.01).stat("k1") is not None
    assert keys(RetryingStore(Failing(local, gone, gone), 2, first_wait_s=0.01)) == [
        f"k{number}" for number in range(6)
    ]
    assert [*RetryingStore(local, 1).list("none")] == []
    put(local, "empty", b"")
    assert RetryingStore(local, 1).read_bytes("empty") == b""


def test_bandwidth_is_kept_over_bursts_and_bodies_larger_than_a_second() -> None:
    now = 0.0
    bandwidth = Bandwidth(1000, clock=lambda: now)
    assert bandwidth._overdrawn_s(1000) == 0
    assert bandwidth._overdrawn_s(500) == 0.5
    now = 0.5
    assert bandwidth._overdrawn_s(5000) == 5
    now = 100.0
    assert bandwidth._overdrawn_s(1000) == 0
    assert bandwidth._overdrawn_s(1) > 0


def test_a_limited_store_takes_its_time(local: Store, tmp_path: Path) -> None:
    store = LimitedStore(local, 100_000)
    body = bytes(70_000)
    path = tmp_path / "f"
    path.write_bytes(body)
    began = time.monotonic()
    put(store, "a", body)
    store.put_file("b", path, meta_of(body))
    put(store, "c", body)
    assert 1 < time.monotonic() - began < 10
    assert store.read_bytes("b") == body
    assert store.capabilities == local.capabilities
    assert store.url == local.url


def test_a_limited_store_is_interrupted(local: Store, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(100_000))

    def stop() -> None:
        if paced:
            raise Stopped("asked to stop")

    paced: list[int] = []
    store = LimitedStore(local, 1024)
    with pytest.raises(Stopped):
        store.put_file("b", path, meta_of(bytes(100_000)), transfer=Transfer(check=stop, pace=paced.append))
    assert local.stat("b") is None
    with pytest.raises(Stopped):
        put(LimitedStore(local, 1024, check=stop), "c", bytes(100_000))
