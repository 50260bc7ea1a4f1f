"""One fixture that is every store in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.config import Destination, UploadConfig
from ingest.stores.base import Capabilities, Store
from ingest.stores.objects import ObjectStore
from ingest.stores.open import open_store
from ingest.stores.s3_clients import S3Clients
from tests.s3_servers import S3Server, s3_destination
from tests.stores.helpers import UPLOAD

OpenStore = Callable[..., Store]

KINDS = ("file", "rclone", "moto", "obstore")
"""``obstore`` is what ``gs://`` and ``az://`` are made of, with a client for S3 under it."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which store it is."""
    return str(request.param)


@pytest.fixture
def destination(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Destination:
    """An empty destination of this kind."""
    if kind == "file":
        return Destination(url=f"file://{tmp_path}/a store")
    server: S3Server = request.getfixturevalue("rclone_s3" if kind == "rclone" else "moto_s3")
    return s3_destination(server, monkeypatch, prefix="a prefix/below")


@pytest.fixture
def open_this(kind: str) -> OpenStore:
    """What opens a store of this kind."""
    return open_store if kind != "obstore" else open_plain


def open_plain(
    destination: Destination, upload: UploadConfig, capabilities: Capabilities | None = None
) -> ObjectStore:
    """An :class:`ObjectStore` and nothing more, on S3."""
    bucket, _, prefix = destination.url.removeprefix("s3://").partition("/")
    clients = S3Clients(destination, upload, bucket, prefix)
    return ObjectStore(clients.obstore(sha256=False), destination, upload, clients.place, capabilities)


@pytest.fixture
def store(destination: Destination, open_this: OpenStore) -> Iterator[Store]:
    """An empty, probed store of this kind."""
    opened = open_this(destination, UPLOAD)
    opened.probe()
    yield opened
    opened.close()
