"""Large files in parts: taken up again where they were broken off, or gone without a trace."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.config import UploadConfig
from ingest.errors import SourceChanged, SourceUnreadable, Stopped, StoreUnreachable
from ingest.stores import multipart
from ingest.stores.base import Store, Transfer, never
from ingest.stores.open import open_store
from ingest.stores.part_sending import UploadUnderWay
from ingest.stores.parts import MAX_PARTS, part_size
from ingest.stores.retry import RetryingStore
from ingest.stores.source import fingerprint, read_piece
from tests.s3_servers import S3Server, s3_destination
from tests.stores.helpers import MIB, UPLOAD, Records, large_file, meta_of, probed
from tests.stores.proxy import Proxy, Request, Response, error, proxied

SIZE = 27 * MIB + 5
PARTS = 6
SMALL = UploadConfig(
    multipart_threshold_bytes=5 * MIB, part_size_bytes=5 * MIB, bytes_in_flight=10 * MIB, threads=32
)


@pytest.fixture(params=["rclone", "moto"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each S3 server in turn."""
    found: S3Server = request.getfixturevalue(f"{request.param}_s3")
    return found


def uploads(server: S3Server, bucket: str) -> list[Any]:
    """The unfinished uploads that the server knows of."""
    client = server.client()
    found = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    client.close()
    return [*found]


def parts_sent(proxy: Proxy) -> int:
    """How many parts have gone through the proxy."""
    return sum(1 for request in proxy.seen if request.method == "PUT" and "partNumber=" in request.path)


def break_off(store: Store, path: Path, body: bytes, records: Records, after_parts: int) -> None:
    """Put a file, and stop it once so many of its parts are stored."""
    sent: list[int] = []

    def check() -> None:
        if len(sent) >= after_parts:
            raise Stopped("asked to stop")

    with pytest.raises(Stopped):
        store.put_file(
            "large file",
            path,
            meta_of(body),
            transfer=Transfer(records=records, check=check, sent=sent.append),
        )


def test_another_node_goes_on_without_sending_parts_again(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, body = large_file(tmp_path, SIZE)
    records = Records()
    with proxied(server) as (through, proxy):
        destination = s3_destination(through, monkeypatch, prefix="p")
        first = probed(destination)
        proxy.seen.clear()
        break_off(first, path, body, records, after_parts=2)
        before = parts_sent(proxy)
        assert records.history == ["begin", "id"]
        assert first.stat("large file") is None
        first.close()
        for thread in threading.enumerate():
            if thread.name.startswith("ingest-part"):
                thread.join()  # what was under way may still arrive
        # When another node, with a store of its own, goes on
        second = open_store(destination, UPLOAD, first.capabilities)
        proxy.seen.clear()
        sent: list[int] = []
        second.put_file(
            "large file", path, meta_of(body), transfer=Transfer(records=records, sent=sent.append)
        )
        # Then only the missing parts are sent, all are counted, and the object is whole
        assert 2 <= before < PARTS
        assert parts_sent(proxy) <= PARTS - 2
        assert sum(sent) == SIZE
        assert second.read_bytes("large file") == body
        assert records.history == ["begin", "id", "forget"]
        second.close()


def test_parts_of_a_file_that_changed_meanwhile_do_not_count(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, body = large_file(tmp_path, SIZE)
    destination = s3_destination(server, monkeypatch)
    store, records = probed(destination), Records()
    break_off(store, path, body, records, after_parts=2)
    path.write_bytes(b"?" + body[1:])
    with pytest.raises(SourceChanged):
        store.put_file("large file", path, meta_of(body), transfer=Transfer(records=records))
    assert store.stat("large file") is None
    assert records.ids == {}
    assert uploads(server, destination.url.removeprefix("s3://")) == []
    store.close()


def test_what_the_digests_prove_to_be_there_is_not_read_again(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, body = large_file(tmp_path, SIZE)
    destination = s3_destination(server, monkeypatch)
    store, records = probed(destination), Records()
    digests = fingerprint(path, store.cut(SIZE), never).digests
    break_off(store, path, body, records, after_parts=2)
    read: list[int] = []

    def reading(*args: Any) -> bytes:
        piece = read_piece(*args)
        read.append(len(piece))
        return piece

    with monkeypatch.context() as counted:
        counted.setattr(multipart, "read_piece", reading)
        store.put_file("large file", path, meta_of(body), transfer=Transfer(digests, records))

    assert sum(read) <= SIZE - 2 * UPLOAD.part_size_bytes
    assert store.read_bytes("large file") == body
    assert records.ids == {}
    store.close()


@pytest.mark.parametrize(
    "change", ["first byte", "last byte", "longer", "shorter", "a part shorter", "empty"]
)
def test_a_file_that_changes_after_its_digests_were_taken_is_not_stored(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    path, body = large_file(tmp_path, SIZE)
    destination = s3_destination(server, monkeypatch)
    store, records = probed(destination), Records()
    digests = fingerprint(path, store.cut(SIZE), never).digests
    changed = {
        "first byte": b"?" + body[1:],
        "last byte": body[:-1] + b"?",
        "longer": body + b"?",
        "shorter": body[:-1],
        "a part shorter": body[: -UPLOAD.part_size_bytes],
        "empty": b"",
    }[change]
    # When it changes after it was looked at, and before it is sent
    monkeypatch.setattr("ingest.stores.objects.size_of", lambda _: SIZE)
    path.write_bytes(changed)

    with pytest.raises(SourceChanged):
        store.put_file("large file", path, meta_of(body), transfer=Transfer(digests, records))

    assert store.stat("large file") is None
    assert records.ids == {}
    assert uploads(server, destination.url.removeprefix("s3://")) == []
    store.close()


@pytest.mark.parametrize("parts", [0, 2])
def test_an_upload_begun_when_the_file_was_another_never_vouches_for_it(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parts: int
) -> None:
    """Its metadata has the SHA-256 of the former content; its parts may fit the new content all the same."""
    path, body = large_file(tmp_path, SIZE)
    store, records = probed(s3_destination(server, monkeypatch)), Records()
    break_off(store, path, body, records, after_parts=parts)
    body = body[:-1] + b"?"
    path.write_bytes(body)
    RetryingStore(store, 1, first_wait_s=0.01).put_file(
        "large file", path, meta_of(body), transfer=Transfer(records=records)
    )
    found = store.stat("large file")
    assert found is not None
    assert found.sha256 == meta_of(body).sha256
    assert store.read_bytes("large file") == body
    assert records.ids == {}
    store.close()


def test_a_file_that_fails_to_be_read_gives_its_room_back(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, body = large_file(tmp_path, SIZE)
    store = probed(s3_destination(moto_s3, monkeypatch), SMALL)
    with monkeypatch.context() as broken:

        def fail(*_: Any) -> bytes:
            raise SourceUnreadable("the medium failed")

        broken.setattr(multipart, "read_piece", fail)
        for _ in range(3):
            with pytest.raises(SourceUnreadable):
                store.put_file("k", path, meta_of(body), transfer=Transfer(records=Records()))

    def check() -> None:
        if time.monotonic() > give_up_s:
            raise Stopped("it waits for ever")

    give_up_s = time.monotonic() + 30
    store.put_file("k", path, meta_of(body), transfer=Transfer(records=Records(), check=check))
    store.close()


@pytest.mark.parametrize("by_id", [True, False])
def test_an_abort_leaves_nothing_and_touches_no_other(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_id: bool
) -> None:
    path, body = large_file(tmp_path, SIZE)
    destination = s3_destination(server, monkeypatch)
    bucket = destination.url.removeprefix("s3://")
    store, records = probed(destination), Records()
    break_off(store, path, body, records, after_parts=1)
    client = server.client()
    client.create_multipart_upload(Bucket=bucket, Key="large file 2")
    client.close()
    store.abort_upload("large file", records.ids["large file"] if by_id else "")
    store.abort_upload("large file", "")
    assert [found["Key"] for found in uploads(server, bucket)] == ["large file 2"]
    # An upload whose ID is gone begins anew
    store.put_file("large file", path, meta_of(body), transfer=Transfer(records=records))
    assert store.read_bytes("large file") == body
    store.close()


def test_an_upload_whose_id_was_never_recorded_is_aborted(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, body = large_file(tmp_path, SIZE)
    destination = s3_destination(server, monkeypatch)
    bucket = destination.url.removeprefix("s3://")
    store = probed(destination)
    client = server.client()
    client.create_multipart_upload(Bucket=bucket, Key="large file")
    client.close()
    store.put_file("large file", path, meta_of(body), transfer=Transfer(records=Records({"large file": ""})))
    assert uploads(server, bucket) == []
    assert store.read_bytes("large file") == body
    store.close()


def test_without_records_nothing_stays_of_a_failure(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, body = large_file(tmp_path, SIZE)
    with proxied(server) as (through, proxy):
        destination = s3_destination(through, monkeypatch)
        store = probed(destination)

        def failing(request: Request, forward: Any) -> Response:
            return error(503, "SlowDown") if "partNumber=3" in request.path else forward(request)

        proxy.handle = failing
        with pytest.raises(StoreUnreachable):
            store.put_file("large file", path, meta_of(body))
        assert uploads(server, destination.url.removeprefix("s3://")) == []
        store.close()


def test_a_lost_answer_to_completing_does_not_send_it_all_again(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, body = large_file(tmp_path, SIZE)
    with proxied(server) as (through, proxy):
        store, records = probed(s3_destination(through, monkeypatch)), Records()

        def losing(request: Request, forward: Any) -> Response:
            answer: Response = forward(request)
            completing = request.method == "POST" and "uploadId=" in request.path
            return error(500, "InternalError") if completing else answer

        proxy.handle = losing
        with pytest.raises(StoreUnreachable):
            store.put_file("large file", path, meta_of(body), transfer=Transfer(records=records))
        proxy.seen.clear()
        store.put_file("large file", path, meta_of(body), transfer=Transfer(records=records))
        assert parts_sent(proxy) == 0
        assert records.ids == {}
        store.close()


def test_a_key_with_a_newline_goes_up_in_parts(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, body = large_file(tmp_path, 6 * MIB)
    store = probed(s3_destination(rclone_s3, monkeypatch))
    store.put_file("new\nline", path, meta_of(body), transfer=Transfer(records=Records()))
    assert store.read_bytes("new\nline") == body
    store.close()


@pytest.mark.parametrize("part_bytes", [5 * MIB, 9 * MIB])
def test_parts_under_way_never_hold_more_than_is_allowed(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part_bytes: int
) -> None:
    """Very large files have larger parts than are asked for, and it is bytes that count."""
    path, body = large_file(tmp_path, SIZE)
    monkeypatch.setattr(multipart, "part_size", lambda size_bytes, wanted_bytes: part_bytes)
    store = probed(s3_destination(moto_s3, monkeypatch), SMALL)
    send, lock = UploadUnderWay._sent, threading.Lock()
    held = most = 0

    def counted(upload: Any, number: int, body: bytes) -> Any:
        nonlocal held, most
        with lock:
            held += len(body)
            most = max(most, held)
        try:
            return send(upload, number, body)
        finally:
            with lock:
                held -= len(body)

    monkeypatch.setattr(UploadUnderWay, "_sent", counted)
    store.put_file("k", path, meta_of(body), transfer=Transfer(records=Records()))
    assert 0 < most <= SMALL.bytes_in_flight
    store.close()


@given(size=st.integers(1, 5 << 40), wanted=st.integers(5 * MIB, 5 << 30))
def test_every_node_cuts_a_file_alike_in_at_most_10000_parts(size: int, wanted: int) -> None:
    part = part_size(size, wanted)
    assert part >= wanted
    assert -(-size // part) <= MAX_PARTS
    assert part == wanted or part % MIB == 0
    assert part == part_size(size, wanted)
