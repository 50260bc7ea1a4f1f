"""Objects whose put nobody checked, as its node died: the next attempt does not take their own word for their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest.ledger import State
from ingest.stores.multipart import Multipart
from ingest.stores.objects import ObjectStore
from ingest.stores.s3 import S3Store
from tests.engine.jobs_by_hand import feed, job_over, work
from tests.engine.making import MIB, s3_folder
from tests.s3_servers import S3Server

SIZES = {"small": 1400, "large": 6 * MIB}
PART_BYTES = 5 * MIB
IN_PARTS = {"multipart_threshold_bytes": PART_BYTES, "part_size_bytes": PART_BYTES}


class Killed(BaseException):
    """As a node ends that is killed: nothing of it handles that."""


@pytest.fixture
def garbled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the objects that the store garbled, the first of each kind; then the node is killed."""
    keys: list[str] = []

    def dying(store: S3Store, key: str, size_bytes: int, meta: Any) -> None:
        keys.append(key)
        boto, named = store.clients.boto, store.named(key)
        if size_bytes < PART_BYTES:
            boto.put_object(**named, **store.headers(key, meta), Body=bytes(size_bytes))
            raise Killed
        upload_id = boto.create_multipart_upload(**named, **store.headers(key, meta))["UploadId"]
        parts: list[Any] = []
        for number, part_bytes in enumerate((PART_BYTES, size_bytes - PART_BYTES), 1):
            answer = boto.upload_part(**named, UploadId=upload_id, PartNumber=number, Body=bytes(part_bytes))
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        boto.complete_multipart_upload(**named, UploadId=upload_id, MultipartUpload={"Parts": parts})
        raise Killed

    checked, checked_parts = ObjectStore._checked, Multipart._checked

    def small(store: S3Store, key: str, body: bytes, meta: Any, etag: str | None) -> Any:
        if key in SIZES and key not in keys:
            dying(store, key, len(body), meta)
        return checked(store, key, body, meta, etag)

    def large(multipart: Multipart, key: str, parts: Any, size_bytes: int, meta: Any) -> Any:
        if key not in keys:
            dying(multipart._store, key, size_bytes, meta)
        return checked_parts(multipart, key, parts, size_bytes, meta)

    monkeypatch.setattr(ObjectStore, "_checked", small)
    monkeypatch.setattr(Multipart, "_checked", large)
    return keys


@pytest.mark.parametrize(
    ("name", "on_existing"), [("small", "skip"), ("large", "skip"), ("large", "overwrite")]
)
@pytest.mark.parametrize("checksum", ["read_back", "md5"])
@pytest.mark.parametrize("server", ["rclone_s3", "moto_s3"])
def test_garbled_bytes_of_a_killed_node_never_count(
    server: str,
    checksum: str,
    on_existing: str,
    name: str,
    tmp_path: Path,
    redis_url: str,
    garbled: list[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    # Given a store, with and without conditional puts, that garbles what it says it took
    s3: S3Server = request.getfixturevalue(server)
    destination = s3_folder(s3, monkeypatch, checksum=checksum, on_existing=on_existing)
    job = job_over(tmp_path, destination=destination, upload=IN_PARTS)
    content = b"true" * (SIZES[name] // 4)
    (tmp_path / "source" / name).write_bytes(content)
    feed(job)

    # When the node is killed before it has checked the answer, and another goes on
    with pytest.raises(Killed):
        work(job)
    assert garbled == [name]
    assert job.store.read_bytes(name) == bytes(len(content))
    work(job)

    # Then it is stored again, and counts as stored
    assert job.complete() is State.COMPLETE
    assert job.store.read_bytes(name) == content
    assert (job.status().counts.done, job.status().counts.skipped) == (1, 0)


@pytest.mark.parametrize("checksum", ["read_back", "md5"])
def test_what_such_a_node_stored_well_is_not_sent_again(
    checksum: str, tmp_path: Path, redis_url: str, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_over(tmp_path, destination=s3_folder(rclone_s3, monkeypatch, checksum=checksum))
    (tmp_path / "source" / "small").write_bytes(b"true")
    feed(job)
    checked = ObjectStore._checked

    def dying(store: S3Store, key: str, *rest: Any) -> Any:
        if key == "small":
            raise Killed
        return checked(store, key, *rest)

    monkeypatch.setattr(ObjectStore, "_checked", dying)
    with pytest.raises(Killed):
        work(job)

    work(job)  # a put would be checked, and kill this node too

    assert job.complete() is State.COMPLETE
    assert (job.status().counts.done, job.status().counts.skipped) == (1, 0)


@pytest.mark.parametrize(
    ("server", "name"), [("rclone_s3", "small"), ("moto_s3", "small"), ("moto_s3", "large")]
)
def test_what_such_a_node_of_another_job_left_is_not_taken_for_the_same(
    server: str,
    name: str,
    tmp_path: Path,
    redis_url: str,
    garbled: list[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    destination = s3_folder(request.getfixturevalue(server), monkeypatch, checksum="md5")
    first = job_over(tmp_path, destination=destination, upload=IN_PARTS)
    (tmp_path / "source" / name).write_bytes(b"true" * (SIZES[name] // 4))
    feed(first)
    with pytest.raises(Killed):
        work(first)
    first.cancel()

    second = job_over(tmp_path, destination=destination, upload=IN_PARTS)
    feed(second)
    work(second)

    assert second.complete() is State.FAILED
    assert [failure.error for failure in second.failures()] == ["KeyConflict"]
