"""Real S3 servers for tests: ``rclone serve s3`` checks signatures, ``moto_server`` honours If-None-Match."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from ingest.config import Destination
from tests.needs import program

ACCESS_KEY = "INGESTTESTACCESSKEY"
SECRET_KEY = "ingest-test-secret-key-0123456789"  # a test server's


@dataclass
class S3Server:
    """A running server. Buckets last as long as it does, so each test makes its own."""

    name: str
    endpoint_url: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def client(self) -> Any:
        """A boto3 client of the server, for looking behind the store's back."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def make_bucket(self, name: str | None = None) -> str:
        """Make a bucket, under a name of its own where none is given, and return its name."""
        name = name or f"bucket-{next(self._numbers)}"
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def running(command: Callable[[int], list[str]], log: Path) -> Iterator[int]:
    """Start a server on a free port, wait until it answers, and end it (by its own process ID) after use."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    with log.open("wb") as out:
        server = subprocess.Popen(command(port), stdout=out, stderr=subprocess.STDOUT, env=env)
    try:
        _wait_for(server, port, log)
        yield port
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def rclone_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """``rclone serve s3`` over a folder: signatures and Content-MD5 are checked, If-None-Match is not.

    It keeps its directories in memory for as long as it runs: read again from the folder, which it does after five
    minutes otherwise, a key with a newline is another one.
    """
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "buckets").mkdir()
    rclone = program("rclone")

    def command(port: int) -> list[str]:
        auth = f"{ACCESS_KEY},{SECRET_KEY}"
        config = str(folder / "rclone.conf")
        where = ["--addr", f"127.0.0.1:{port}", str(folder / "buckets")]
        return [
            rclone,
            "serve",
            "s3",
            "--config",
            config,
            "--vfs-cache-mode",
            "off",
            "--dir-cache-time",
            "24h",
            "--auth-key",
            auth,
            *where,
        ]

    with running(command, folder / "log") as port:
        yield S3Server("rclone", f"http://127.0.0.1:{port}")


@pytest.fixture(scope="session")
def moto_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """``moto_server``: If-None-Match is honoured; signatures and checksums are not checked."""
    moto = program("moto_server")
    log = tmp_path_factory.mktemp("moto") / "log"
    with running(lambda port: [moto, "-H", "127.0.0.1", "-p", str(port)], log) as port:
        yield S3Server("moto", f"http://127.0.0.1:{port}")


def use_credentials(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> None:
    """Give this process the server's credentials, and none of the user's own."""
    for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_CA_BUNDLE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)


def s3_destination(
    server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    *,
    bucket: str | None = None,
    prefix: str = "",
    **named: Any,
) -> Destination:
    """A destination on the server, in a new bucket where none is given, with the AWS_* variables set."""
    use_credentials(monkeypatch, server)
    bucket = server.make_bucket() if bucket is None else bucket
    return Destination(
        url=f"s3://{bucket}/{prefix}".rstrip("/"), **{"endpoint_url": server.endpoint_url, **named}
    )
