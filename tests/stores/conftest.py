"""One fixture that is every store in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.config import Destination
from ingest.stores.base import Store
from tests.s3_servers import S3Server, s3_destination
from tests.stores.helpers import probed

KINDS = ("file", "rclone", "moto")


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
    server: S3Server = request.getfixturevalue(f"{kind}_s3")
    return s3_destination(server, monkeypatch, prefix="a prefix/below")


@pytest.fixture
def store(destination: Destination) -> Iterator[Store]:
    """An empty, probed store of this kind."""
    opened = probed(destination)
    yield opened
    opened.close()
