"""What goes wrong on the way is found, whichever way it is checked. A proxy before a real server does the harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import ChecksumMismatch, ConfigError, StoreUnreachable
from ingest.stores.base import Capabilities, Checksum, Transfer
from ingest.stores.open import open_store
from ingest.stores.retry import RetryingStore
from tests.s3_servers import S3Server, s3_destination
from tests.stores.helpers import MIB, UPLOAD, Records, large_file, meta_of, probed, put
from tests.stores.proxy import (
    Dropped,
    Forward,
    Request,
    Response,
    checking_sha256,
    error,
    flipping_a_bit,
    proxied,
)


@pytest.mark.parametrize("checksum", ["md5", "read_back"])
def test_a_flipped_bit_is_found_and_the_object_does_not_stay(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, checksum: str
) -> None:
    with proxied(moto_s3) as (server, proxy):
        store = probed(s3_destination(server, monkeypatch, checksum=checksum))
        proxy.handle = flipping_a_bit
        with pytest.raises(ChecksumMismatch):
            put(store, "k")
        assert store.stat("k") is None
        proxy.handle = lambda request, forward: forward(request)
        put(store, "k", b"whole")
        assert store.read_bytes("k") == b"whole"
        store.close()


def test_signatures_find_a_flipped_bit_too(rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxied(rclone_s3) as (server, proxy):
        store = probed(s3_destination(server, monkeypatch))
        proxy.handle = flipping_a_bit
        with pytest.raises(ChecksumMismatch):
            put(store, "k")
        assert store.stat("k") is None
        store.close()


@pytest.mark.parametrize("checksum", ["none", "md5"])
@pytest.mark.parametrize("refuses", [True, False])
def test_a_body_goes_unsigned_only_where_the_connection_is_trusted_and_the_server_takes_it(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, checksum: str, refuses: bool
) -> None:
    def unsigned(request: Request) -> bool:
        return request.header("x-amz-content-sha256") == "UNSIGNED-PAYLOAD"

    def policy(request: Request, forward: Forward) -> Response:
        is_refused = refuses and request.method == "PUT" and unsigned(request)
        return error(403, "AccessDenied") if is_refused else forward(request)

    with proxied(rclone_s3, policy) as (server, proxy):
        store = probed(s3_destination(server, monkeypatch, checksum=checksum))
        expected = checksum == "none" and not refuses
        assert store.capabilities.unsigned_body == expected
        proxy.seen.clear()
        put(store, "k", b"whole")
        (sent,) = [request for request in proxy.seen if request.method == "PUT"]
        assert unsigned(sent) == expected
        assert store.read_bytes("k") == b"whole"
        store.close()


def test_a_server_that_checks_sha256_is_used_so(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with proxied(rclone_s3, checking_sha256) as (server, proxy):
        store = probed(s3_destination(server, monkeypatch))
        assert store.capabilities.checksum is Checksum.SHA256
        proxy.seen.clear()
        put(store, "k")
        put(store, "odd\nkey")
        path, body = large_file(tmp_path, 11 * MIB)
        store.put_file("large", path, meta_of(body), transfer=Transfer(records=Records()))
        puts = [request for request in proxy.seen if request.method == "PUT"]
        assert len(puts) == 5
        assert all(request.header("x-amz-checksum-sha256") for request in puts)
        assert store.read_bytes("large") == body
        store.close()


def test_bytes_harmed_before_a_server_that_checks_sha256_are_refused(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with proxied(moto_s3, checking_sha256) as (server, proxy):
        store = probed(s3_destination(server, monkeypatch))

        def harm(request: Request, forward: Forward) -> Response:
            return flipping_a_bit(request, lambda harmed: checking_sha256(harmed, forward))

        proxy.handle = harm
        with pytest.raises(ChecksumMismatch):
            put(store, "k")
        path, body = large_file(tmp_path, 6 * MIB)
        with pytest.raises(ChecksumMismatch):
            store.put_file("f", path, meta_of(body), transfer=Transfer(records=Records()))
        assert store.stat("k") is None
        assert store.stat("f") is None
        store.close()


def test_a_server_that_checks_sha256_of_objects_alone_is_not_believed_of_parts(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def objects_alone(request: Request, forward: Forward) -> Response:
        return forward(request) if "partNumber=" in request.path else checking_sha256(request, forward)

    with proxied(moto_s3, objects_alone) as (server, proxy):
        destination = s3_destination(server, monkeypatch)
        store = probed(destination)
        assert store.capabilities.checksum is Checksum.MD5
        client = moto_s3.client()
        assert not client.list_multipart_uploads(Bucket=destination.url.removeprefix("s3://")).get("Uploads")
        client.close()
        proxy.handle = flipping_a_bit
        path, body = large_file(tmp_path, 6 * MIB)
        with pytest.raises(ChecksumMismatch):
            store.put_file("f", path, meta_of(body), transfer=Transfer(records=Records()))
        assert store.stat("f") is None
        store.close()


def test_a_checksum_that_does_not_work_here_is_a_config_error(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"destination\.checksum"):
        probed(s3_destination(moto_s3, monkeypatch, checksum="sha256"))
    for checksum in ("sha256", "md5"):
        destination = s3_destination(moto_s3, monkeypatch).model_copy(
            update={"url": f"file://{tmp_path}", "checksum": checksum}
        )
        with pytest.raises(ConfigError, match=r"destination\.checksum"):
            probed(destination)


def encrypting(request: Request, forward: Forward) -> Response:
    """What a bucket that encrypts by a key of KMS does: its ETags are no MD5s."""
    answer = forward(request)
    etag = f'"{"0123" * 8}"'
    headers = [(name, etag if name.lower() == "etag" else value) for name, value in answer.headers]
    return Response(answer.status, headers, answer.body)


def test_a_bucket_that_begins_to_encrypt_while_a_job_runs_is_read_back(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(moto_s3) as (server, proxy):
        store = probed(s3_destination(server, monkeypatch))
        assert store.capabilities.checksum is Checksum.MD5
        proxy.handle = encrypting
        put(store, "k", b"whole")
        assert store.read_bytes("k") == b"whole"
        proxy.handle = lambda request, forward: flipping_a_bit(
            request, lambda sent: encrypting(sent, forward)
        )
        with pytest.raises(ChecksumMismatch):
            put(store, "l")
        assert store.stat("l") is None
        store.close()


def test_a_bucket_with_object_lock_can_be_used(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that keeps what is put for a while by default takes no object without a checksum."""

    def locking(request: Request, forward: Forward) -> Response:
        is_object = request.method == "PUT" and "partNumber=" not in request.path
        if is_object and request.header("x-amz-checksum-sha256") is None:
            return error(400, "InvalidRequest")
        return checking_sha256(request, forward)

    with proxied(moto_s3) as (server, proxy):
        destination = s3_destination(server, monkeypatch)
        proxy.handle = locking
        store = probed(destination)
        assert store.capabilities == Capabilities(
            if_absent=True, checksum=Checksum.SHA256, metadata=True, resumable=True, md5_etags=True
        )
        put(store, "k", b"whole")
        path, body = large_file(tmp_path, 6 * MIB)
        store.put_file("f", path, meta_of(body), transfer=Transfer(records=Records()))
        assert (store.read_bytes("k"), store.read_bytes("f")) == (b"whole", body)
        store.close()


def test_an_etag_that_is_no_md5_is_not_taken_for_one(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(moto_s3, encrypting) as (server, _):
        store = probed(s3_destination(server, monkeypatch))
        assert store.capabilities.checksum is Checksum.READ_BACK
        put(store, "k", b"1")
        assert store.read_bytes("k") == b"1"
        store.close()
        with pytest.raises(ConfigError, match="MD5"):
            probed(s3_destination(server, monkeypatch, checksum="md5"))


@pytest.mark.parametrize("fault", ["503", "dropped", "flipped"])
def test_passing_faults_are_repeated(moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    faults = 2

    def failing(request: Request, forward: Forward) -> Response:
        nonlocal faults
        if request.method != "PUT" or not faults:
            return forward(request)
        faults -= 1
        if fault == "503":
            return error(503, "SlowDown")
        if fault == "dropped":
            raise Dropped
        return flipping_a_bit(request, forward)

    with proxied(moto_s3) as (server, proxy):
        store = RetryingStore(probed(s3_destination(server, monkeypatch)), 2, first_wait_s=0.01)
        proxy.handle = failing
        put(store, "k", b"whole")
        assert store.read_bytes("k") == b"whole"
        faults = 3
        with pytest.raises((StoreUnreachable, ChecksumMismatch)):
            put(store, "k", b"again")
        store.close()


def test_a_connection_that_drops_while_reading_is_unreachable(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(moto_s3) as (server, proxy):
        store = open_store(s3_destination(server, monkeypatch), UPLOAD)

        def drop(request: Request, forward: Forward) -> Response:
            raise Dropped

        proxy.handle = drop
        for call in (
            lambda: store.read_bytes("k"),
            lambda: store.read_bytes("odd\nkey"),
            lambda: store.stat("k"),
            lambda: store.stat("odd\nkey"),
            lambda: [*store.list()],
            lambda: store.delete(["k"]),
            lambda: store.delete(["odd\nkey"]),
            lambda: put(store, "k"),
            lambda: put(store, "odd\nkey"),
            lambda: store.abort_upload("k", ""),
        ):
            with pytest.raises(StoreUnreachable):
                call()
        store.close()
