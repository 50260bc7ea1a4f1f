"""The list of devices: what may be in it, and that nobody's addition is lost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ingest.config import Destination
from ingest.device_list import SETTLE_S, FileDeviceList, StoredDeviceList, device_list
from ingest.devices import LIST_NAME, added, checked_id, parse, refuse_unknown
from ingest.errors import ConfigError
from tests.s3_servers import S3Server, s3_destination
from tests.stores.proxy import Forward, Request, Response, error, proxied

AT_ONCE = 6


@pytest.mark.parametrize("device", ["wt-a1b2c3", "mg-007", "CETI-EP-1", "GoPro 11", "a"])
def test_an_id_is_letters_digits_and_a_few_signs(device: str) -> None:
    assert checked_id(device) == device


@pytest.mark.parametrize(
    "device", ["", " a", "a/b", "..", ".hidden", "-x", "a\nb", "wt-å", "a..b", "x" * 101]
)
def test_what_could_lead_astray_is_no_id(device: str) -> None:
    with pytest.raises(ConfigError, match="is no device ID"):
        checked_id(device)


def test_a_list_is_read_as_ceti_reads_it() -> None:
    text = "\ufeffwt-a1\r\n  mg-2 \n\nwt-a1\nlast".encode()

    assert parse(text, "here") == ["wt-a1", "mg-2", "last"]


def test_a_list_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="here is not UTF-8 text: byte 1 is 0xff"):
        parse(b"a\xff", "here")


def test_what_stands_in_a_list_stays() -> None:
    assert added(b"wt-a1  \r\nold", ["new", "old", "new"], "here") == b"wt-a1  \r\nold\nnew\n"
    assert added(b"old\n", ["old"], "here") == b"old\n"


def test_an_unknown_device_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_unknown(["cam-7"], ["cam-07", "wt-a1"], "s3://b/list")

    assert refused.value.what == "the device 'cam-7' is not registered in s3://b/list"
    assert (
        refused.value.hint
        == "did you mean 'cam-07'?; to register it: ingest devices add cam-7 --to URL (or --file FILE)"
    )
    refuse_unknown(["cam-07"], ["cam-07"], "here")


class TestInAFile:
    def test_many_add_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / LIST_NAME
        path.write_bytes(b"first")

        with ThreadPoolExecutor(AT_ONCE) as adding:
            [*adding.map(lambda i: FileDeviceList(path).add([f"cam-{i}"]), range(AT_ONCE))]

        assert FileDeviceList(path).devices()[0] == "first"
        assert set(FileDeviceList(path).devices()) == {"first", *(f"cam-{i}" for i in range(AT_ONCE))}
        assert [
            found.name for found in tmp_path.iterdir() if "Device" in found.name or "." in found.name
        ] == [LIST_NAME]

    def test_a_folder_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be written: No such file"):
            FileDeviceList(tmp_path / "no" / "no" / LIST_NAME).add(["a"])

    def test_a_list_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="there is no list of devices") as refused:
            device_list(Destination(url=f"file://{tmp_path}")).devices()
        assert "devices add" in str(refused.value.hint)


@pytest.fixture(params=["rclone", "moto"])
def destination(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Destination]:
    server: S3Server = request.getfixturevalue(f"{request.param}_s3")
    yield s3_destination(server, monkeypatch, prefix="some/prefix")


class TestInABucket:
    def test_many_add_at_once(self, destination: Destination) -> None:
        def add(number: int) -> None:
            devices = device_list(destination)
            assert isinstance(devices, StoredDeviceList)
            devices.add([f"cam-{number}"])

        add(-1)
        with ThreadPoolExecutor(AT_ONCE) as adding:
            [*adding.map(add, range(AT_ONCE))]

        assert set(device_list(destination).devices()) == {f"cam-{i}" for i in range(-1, AT_ONCE)}

    def test_is_written_on_condition_where_the_server_minds(
        self, moto_s3: S3Server, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for server, minds in ((moto_s3, True), (rclone_s3, False)):
            devices = device_list(s3_destination(server, monkeypatch))
            assert isinstance(devices, StoredDeviceList)
            assert devices._store.minds_etags(".ingest/probe") is minds

    def test_is_a_text_at_its_root(self, moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        destination = s3_destination(moto_s3, monkeypatch, prefix="some/prefix", storage_class="GLACIER")
        device_list(destination).add(["wt-a1", "mg-2"])

        client = moto_s3.client()
        bucket = destination.url.split("/")[2]
        keys = [found["Key"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]]
        answer = client.get_object(Bucket=bucket, Key=LIST_NAME)
        body = answer["Body"].read()
        client.close()
        assert keys == [LIST_NAME]
        assert body == b"wt-a1\nmg-2\n"
        assert answer["ContentType"] == "text/plain; charset=utf-8"
        assert answer["Metadata"] == {"sha256": hashlib.sha256(body).hexdigest()}
        assert answer.get("StorageClass", "STANDARD") == "STANDARD"

    def test_an_addition_that_is_overwritten_is_added_anew(
        self, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        destination = s3_destination(rclone_s3, monkeypatch)
        bucket = destination.url.split("/")[2]
        client = rclone_s3.client()
        written: list[float] = []

        def overwritten_meanwhile(duration_s: float) -> None:
            if duration_s > SETTLE_S:
                written.append(duration_s)
                if len(written) == 1:
                    client.put_object(Bucket=bucket, Key=LIST_NAME, Body=b"theirs\n")

        plain = device_list(destination)
        assert isinstance(plain, StoredDeviceList)
        StoredDeviceList(plain._store, overwritten_meanwhile).add(["ours"])
        client.close()

        assert plain.devices() == ["theirs", "ours"]
        assert len(written) == 2

    @pytest.mark.parametrize("seen", [b"", b"one\n"])
    def test_half_a_list_that_another_is_writing_is_not_taken_for_it(
        self, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, seen: bytes
    ) -> None:
        destination = s3_destination(rclone_s3, monkeypatch)
        bucket = destination.url.split("/")[2]
        client = rclone_s3.client()
        client.put_object(Bucket=bucket, Key=LIST_NAME, Body=seen)
        left = [b"one\ntwo\n"]

        def written_whole_meanwhile(duration_s: float) -> None:
            if left:
                client.put_object(Bucket=bucket, Key=LIST_NAME, Body=left.pop())

        plain = device_list(destination)
        assert isinstance(plain, StoredDeviceList)
        StoredDeviceList(plain._store, written_whole_meanwhile).add(["ours"])
        client.close()

        assert plain.devices() == ["one", "two", "ours"]

    def test_a_server_that_answers_later_is_asked_again(
        self, moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        busy = {"PUT": 2, "GET": 1, "HEAD": 1, "POST": 1}

        def often_busy(request: Request, forward: Forward) -> Response:
            if busy.get(request.method):
                busy[request.method] -= 1
                return error(500, "InternalError")
            return forward(request)

        with proxied(moto_s3) as (server, proxy):
            destination = s3_destination(server, monkeypatch)
            proxy.handle = often_busy
            device_list(destination).add(["ours"])
            assert device_list(destination).devices() == ["ours"]
        assert not any(busy.values())
