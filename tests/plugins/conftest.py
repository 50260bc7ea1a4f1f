"""Fixtures for the tests of plugins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.s3_servers import S3Server, use_credentials

Place = Callable[..., dict[str, Any]]


@pytest.fixture(params=["folder", "rclone"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """From a key template, and more, to a destination in this test's bucket."""
    if request.param == "folder":
        return lambda key, **more: {"url": f"file://{tmp_path}/bucket", "key": key, **more}
    server: S3Server = request.getfixturevalue("rclone_s3")
    use_credentials(monkeypatch, server)
    common = {
        "url": f"s3://{server.make_bucket()}/run",
        "endpoint_url": server.endpoint_url,
        "region": "us-east-1",
    }
    return lambda key, **more: {**common, "key": key, **more}
