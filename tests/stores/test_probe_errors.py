"""What is wrong with a destination is said at once: what, where, and what to do; and never a secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.config import Destination
from ingest.errors import BucketMissing, ConfigError, StoreError, StoreRefused, StoreUnreachable
from ingest.stores.open import open_store
from tests.s3_servers import SECRET_KEY, S3Server, free_port, s3_destination, use_credentials
from tests.stores.helpers import UPLOAD, probed, put
from tests.stores.proxy import Response, proxied

CALLS = ("probe", "put", "put odd", "stat odd", "list", "read", "delete", "abort")


def call(destination: Destination, name: str) -> None:
    """One call of a store that was not probed before."""
    store = open_store(destination, UPLOAD)
    calls: dict[str, Callable[[], object]] = {
        "probe": store.probe,
        "put": lambda: put(store, "k"),
        "put odd": lambda: put(store, "odd\nkey"),
        "stat odd": lambda: store.stat("odd\nkey"),
        "list": lambda: [*store.list()],
        "read": lambda: store.read_bytes("k"),
        "delete": lambda: store.delete(["k"]),
        "abort": lambda: store.abort_upload("k", ""),
    }
    try:
        calls[name]()
    finally:
        store.close()


def refuse(kind: type[StoreError], destination: Destination, name: str) -> str:
    """The message of the error that a call ends with, which must be of this kind and hold no secret."""
    with pytest.raises(kind) as caught:
        call(destination, name)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert SECRET_KEY not in message
    assert "Signature=" not in message
    assert "X-Amz" not in message
    assert "?" not in message
    assert caught.value.hint
    assert destination.url in caught.value.what
    return message


@pytest.mark.parametrize("name", CALLS)
def test_an_endpoint_where_nothing_answers(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    destination = s3_destination(rclone_s3, monkeypatch, bucket="b", endpoint_url=endpoint)
    assert endpoint in refuse(StoreUnreachable, destination, name)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "stat odd"])
def test_a_bucket_that_is_not_there(rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    destination = s3_destination(rclone_s3, monkeypatch, bucket="no-such-bucket")
    assert "no-such-bucket" in refuse(BucketMissing, destination, name)


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_secret(rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    wrong = dataclasses.replace(rclone_s3, secret_key="not-the-secret-not-the-secret")
    destination = s3_destination(wrong, monkeypatch, bucket=rclone_s3.make_bucket())
    message = refuse(StoreRefused, destination, name)
    assert "AWS_SECRET_ACCESS_KEY" in message or name == "stat odd"
    assert "not-the-secret" not in message


def test_an_unknown_access_key(rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(rclone_s3, access_key="SOMEBODYELSESKEY123")
    destination = s3_destination(wrong, monkeypatch, bucket=rclone_s3.make_bucket())
    assert "AWS_ACCESS_KEY_ID" in refuse(StoreRefused, destination, "probe")


def test_no_credentials_at_all(rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = s3_destination(rclone_s3, monkeypatch, bucket="b")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "profile" in refuse(StoreRefused, destination, "probe")


def test_a_profile_that_is_not_there(rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = s3_destination(rclone_s3, monkeypatch, bucket="b", profile="field")
    assert "'field'" in refuse(StoreRefused, destination, "probe")


def test_a_profile_of_the_environment_that_is_not_there(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = s3_destination(rclone_s3, monkeypatch, bucket="b")
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    assert "no profile 'nosuch' here" in refuse(StoreRefused, destination, "probe")


def test_a_profile_names_key_endpoint_and_region(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_credentials(monkeypatch, rclone_s3)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    config = tmp_path / "config"
    config.write_text(
        f"[profile field]\naws_access_key_id = {rclone_s3.access_key}\n"
        f"aws_secret_access_key = {rclone_s3.secret_key}\n"
        f"endpoint_url = {rclone_s3.endpoint_url}\nregion = eu-west-1\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    store = probed(Destination(url=f"s3://{rclone_s3.make_bucket()}", profile="field"))
    put(store, "k", b"1")
    assert store.read_bytes("k") == b"1"
    store.close()


def test_aws_without_a_region_is_a_config_error(rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use_credentials(monkeypatch, rclone_s3)
    with pytest.raises(ConfigError, match=r"destination\.region"):
        open_store(Destination(url="s3://bucket"), UPLOAD)


@pytest.mark.parametrize("prefix", ["a//b", "../b", "a/./b", "tab\there"])
def test_a_prefix_that_cannot_be(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"destination\.url"):
        open_store(Destination(url=f"s3://bucket/{prefix}", region="us-east-1"), UPLOAD)


def test_a_folder_whose_parent_is_not_there(tmp_path: Path) -> None:
    destination = Destination(url=f"file://{tmp_path}/not mounted/store")
    for name in ("probe", "put", "put odd", "list"):
        refuse(BucketMissing, destination, name)
    assert not (tmp_path / "not mounted").exists()


def test_a_folder_that_vanishes_is_not_made_again(tmp_path: Path) -> None:
    store = probed(Destination(url=f"file://{tmp_path}/store"))
    (tmp_path / "store").rmdir()
    with pytest.raises(BucketMissing):
        put(store, "k")
    assert not (tmp_path / "store").exists()


def test_an_object_that_may_not_be_deleted_is_told(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is a success as a whole, with an error for each object that stays."""
    answer = (
        b'<?xml version="1.0"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Deleted><Key>k</Key>'
        b"</Deleted><Error><Key>l</Key><Code>AccessDenied</Code><Message>No</Message></Error></DeleteResult>"
    )
    with proxied(moto_s3) as (server, proxy):
        store = probed(s3_destination(server, monkeypatch))
        proxy.handle = lambda request, forward: Response(200, [("Content-Type", "application/xml")], answer)
        with pytest.raises(StoreRefused, match="AccessDenied"):
            store.delete(["k", "l"])
        store.close()
