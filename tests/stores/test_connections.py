"""The ways to a server, and to credentials, that people have; and what is said where one does not lead there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.config import Destination
from ingest.errors import ConfigError, IngestError, StoreError, StoreRefused, StoreUnreachable
from ingest.stores.open import open_store
from tests.needs import program
from tests.s3_servers import S3Server, running, s3_destination
from tests.stores.helpers import UPLOAD, probed, put
from tests.stores.proxy import Response, proxied


def certify(folder: Path, name: str, *options: str) -> None:
    """Make a certificate of a CA's own, and its key."""
    files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        f"/CN={name}",
        *files,
    ]
    subprocess.run([*command, *options], check=True, capture_output=True)


@contextmanager
def serving(folder: Path, certificate: str) -> Iterator[S3Server]:
    """``rclone serve s3`` over TLS with a certificate of this folder, and a bucket ``data``."""
    (folder / "buckets" / "data").mkdir(parents=True)
    server = S3Server("rclone", "")

    def command(port: int) -> list[str]:
        shown = ["--cert", str(folder / f"{certificate}.pem"), "--key", str(folder / f"{certificate}.key")]
        auth = ["--auth-key", f"{server.access_key},{server.secret_key}", "--addr", f"127.0.0.1:{port}"]
        return [program("rclone"), "serve", "s3", *auth, *shown, str(folder / "buckets")]

    with running(command, folder / "log") as port:
        server.endpoint_url = f"https://127.0.0.1:{port}"
        yield server


@pytest.fixture(scope="module")
def tls_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Server, Path]]:
    """``rclone serve s3`` over TLS with a certificate that nobody knows, and the folder in which it is."""
    folder = tmp_path_factory.mktemp("tls")
    certify(folder, "other")
    certify(
        folder, "server", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"
    )
    bundle = (folder / "other.pem").read_bytes() + (folder / "server.pem").read_bytes()
    (folder / "bundle.pem").write_bytes(bundle)
    with serving(folder, "server") as server:
        yield server, folder


def refusal(destination: Destination) -> IngestError:
    """What a store says that cannot be used."""
    with pytest.raises(IngestError) as caught:
        open_store(destination, UPLOAD).probe()
    return caught.value


class TestCertificates:
    @pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
    def test_a_ca_of_ones_own(
        self, tls_s3: tuple[S3Server, Path], monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        server, folder = tls_s3
        destination = s3_destination(server, monkeypatch, bucket="data")
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
        monkeypatch.setenv(variable, str(folder / "bundle.pem"))
        store = probed(destination)
        put(store, "k", b"1")
        assert store.read_bytes("k") == b"1"
        store.close()

    def test_one_that_is_not_known_is_told_by_both_clients(
        self, tls_s3: tuple[S3Server, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An empty AWS_CA_BUNDLE made boto3 trust anybody."""
        destination = s3_destination(tls_s3[0], monkeypatch, bucket="data")
        for bundle in ("", str(tls_s3[1] / "other.pem")):
            monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
            store = open_store(destination, UPLOAD)
            with pytest.raises(StoreUnreachable, match=r"certificate is not trusted.*\n.*AWS_CA_BUNDLE"):
                put(store, "k")
            with pytest.raises(StoreUnreachable, match=r"certificate is not trusted.*\n.*AWS_CA_BUNDLE"):
                [*store.list()]
            store.close()

    @pytest.mark.parametrize("name", ["none.pem", "server.key", ""])
    def test_a_bundle_that_is_none_is_named(
        self, tls_s3: tuple[S3Server, Path], monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        server, folder = tls_s3
        destination = s3_destination(server, monkeypatch, bucket="data")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(folder / name))
        error = refusal(destination)
        assert type(error) is ConfigError
        assert "AWS_CA_BUNDLE" in str(error)

    def test_one_of_a_ca_shown_as_a_servers(
        self, tls_s3: tuple[S3Server, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """``openssl req -x509`` makes such ones; boto3 takes them, and obstore does not."""
        certify(tmp_path, "ca", "-addext", "subjectAltName=IP:127.0.0.1")
        with serving(tmp_path, "ca") as server:
            destination = s3_destination(server, monkeypatch, bucket="data")
            monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
            assert "CA:FALSE" in str(refusal(destination).hint)


class TestCredentials:
    @pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
    def test_a_line_break_that_came_along_with_one(
        self, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """obstore panicked, and boto3 found no answer."""
        destination = s3_destination(rclone_s3, monkeypatch, bucket="b")
        monkeypatch.setenv(name, "hunter2\n")
        error = refusal(destination)
        assert type(error) is StoreRefused
        assert "line break" in error.what
        assert "hunter2" not in str(error)

    @pytest.mark.parametrize("says", [None, "hunter2", '{"Version": 1, "AccessKeyId": "hunter2"}'])
    def test_a_process_that_is_to_give_them_and_does_not(
        self, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str | None
    ) -> None:
        destination = s3_destination(rclone_s3, monkeypatch, bucket="b", profile="p")
        script, config = tmp_path / "script", tmp_path / "config"
        if says is not None:
            script.write_text(f"#!/bin/sh\necho '{says}'\n")
            script.chmod(0o700)
        config.write_text(f"[profile p]\ncredential_process = {script} hunter2\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        error = refusal(destination)
        assert type(error) is StoreRefused
        assert "'p'" in str(error.hint)
        assert "hunter2" not in str(error)


@pytest.mark.parametrize("call", [lambda store: put(store, "k"), lambda store: store.stat("k")])
def test_a_bucket_in_another_region(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, call: Callable[[object], object]
) -> None:
    """AWS says so without a Location, which was taken for no answer at all."""
    with proxied(moto_s3, lambda request, forward: Response(301, [], b"")) as (server, _):
        store = open_store(s3_destination(server, monkeypatch, bucket="b"), UPLOAD)
        with pytest.raises(StoreRefused, match=r"301.*\n.*destination\.region"):
            call(store)
        store.close()


def test_a_server_that_is_no_s3(moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As nginx answers plain HTTP at a port for HTTPS."""
    with proxied(moto_s3, lambda request, forward: Response(400, [], b"<html>No.</html>")) as (server, _):
        error = refusal(s3_destination(server, monkeypatch, bucket="b"))
        assert type(error) is StoreError
        assert "https://" in str(error.hint)


@pytest.mark.parametrize("bucket", ["my data", "arn:aws:s3:us-east-1:123456789012:accesspoint", "b%20c"])
def test_a_bucket_that_cannot_be(bucket: str) -> None:
    with pytest.raises(ValueError, match="no bucket's name has"):
        Destination(url=f"s3://{bucket}/prefix")


def test_schemes_may_be_written_large(rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """``S3://`` was taken for Azure."""
    endpoint = rclone_s3.endpoint_url.replace("http", "HTTP")
    destination = s3_destination(rclone_s3, monkeypatch, endpoint_url=endpoint)
    large = Destination(url=destination.url.replace("s3", "S3"), endpoint_url=endpoint)
    assert large == destination
    probed(large).close()


@pytest.mark.parametrize(
    "url", ["http://joe:hunter2@host:9000", "http://s3_server:9000", "http://host:99999"]
)
def test_a_variable_that_names_no_server(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    destination = s3_destination(rclone_s3, monkeypatch, bucket="b", endpoint_url=None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    error = refusal(destination)
    assert type(error) is ConfigError
    assert "AWS_ENDPOINT_URL" in error.what
    assert "hunter2" not in str(error)
