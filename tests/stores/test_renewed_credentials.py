"""Credentials that a person renews in their file are found by a store that is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.config import Destination
from ingest.errors import StoreRefused
from ingest.stores import s3_clients
from ingest.stores.base import Checksum
from ingest.stores.open import open_store
from ingest.stores.retry import RetryingStore
from ingest.stores.s3 import S3Store
from tests.s3_servers import S3Server, s3_destination
from tests.stores.helpers import MIB, UPLOAD, keys, large_file, meta_of, probed, put
from tests.stores.proxy import Request, Response, proxied

Write = Callable[[str], None]


@pytest.fixture
def write_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rclone_s3: S3Server) -> Write:
    """Writes a secret key into the file that credentials are taken from."""
    monkeypatch.setattr(s3_clients, "LOOK_AGAIN_S", 0.0)
    file = tmp_path / "credentials"

    def write(secret_key: str) -> None:
        key = rclone_s3.access_key
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret_key}\n")

    return write


def _destination_by_file(server: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Destination:
    """A destination, whose credentials are in a file of the folder."""
    destination = s3_destination(server, monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    return destination


@pytest.fixture
def refused(
    write_secret: Write, tmp_path: Path, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> S3Store:
    """A store that was opened with credentials which the server refuses."""
    write_secret(rclone_s3.secret_key)
    destination = _destination_by_file(rclone_s3, tmp_path, monkeypatch)
    found = probed(destination).capabilities
    write_secret("one-that-has-been-replaced")
    opened = open_store(destination, UPLOAD, found)
    assert isinstance(opened, S3Store)
    with pytest.raises(StoreRefused):
        put(opened, "key")
    return opened


@pytest.fixture
def store(refused: S3Store) -> RetryingStore:
    """The same, with retries."""
    return RetryingStore(refused, 2, first_wait_s=0.01)


def test_a_put_goes_through(store: RetryingStore, write_secret: Write, rclone_s3: S3Server) -> None:
    write_secret(rclone_s3.secret_key)

    put(store, "key")

    assert keys(store) == ["key"]


def test_a_large_file_goes_through(
    store: RetryingStore, write_secret: Write, rclone_s3: S3Server, tmp_path: Path
) -> None:
    write_secret(rclone_s3.secret_key)
    path, body = large_file(tmp_path, 11 * MIB)

    store.put_file("large", path, meta_of(body))

    assert store.read_bytes("large") == body


def test_parts_that_carry_a_sha256_go_through(
    refused: S3Store, store: RetryingStore, write_secret: Write, rclone_s3: S3Server, tmp_path: Path
) -> None:
    """They have a client of their own, which a large file before had made with the old key."""
    refused.capabilities = replace(refused.capabilities, checksum=Checksum.SHA256)
    assert refused.clients.boto_for_parts
    write_secret(rclone_s3.secret_key)
    path, body = large_file(tmp_path, 11 * MIB)

    store.put_file("large", path, meta_of(body))

    assert store.read_bytes("large") == body


@pytest.mark.parametrize("key", ["key", "odd\nkey"])
def test_a_question_that_is_refused_without_a_word_goes_through(
    write_secret: Write, tmp_path: Path, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """AWS answers a HEAD whose token has expired with 400, and no body says why."""

    def as_aws(request: Request, forward: Callable[[Request], Response]) -> Response:
        answer = forward(request)
        return Response(400, [], b"") if request.method == "HEAD" and answer.status == 403 else answer

    write_secret(rclone_s3.secret_key)
    with proxied(rclone_s3, as_aws) as (server, _):
        destination = _destination_by_file(server, tmp_path, monkeypatch)
        found = probed(destination).capabilities
        write_secret("one-that-has-expired")
        opened = open_store(destination, UPLOAD, found)
        with pytest.raises(StoreRefused, match="expired"):
            opened.stat(key)
        write_secret(rclone_s3.secret_key)
        assert RetryingStore(opened, 0).stat(key) is None
        opened.close()


def test_the_same_credentials_are_no_reason_to_try_again(store: RetryingStore) -> None:
    assert not store.renew_credentials()
    with pytest.raises(StoreRefused):
        put(store, "key")
