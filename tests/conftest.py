"""Fixtures for all tests: an environment of their own, and a real Redis."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from ingest.config import Settings
from ingest.redis_binary import find_binary
from ingest.redis_server import stop

pytest_plugins = [
    name for name in ("tests.s3_servers", "tests.ssh_servers") if importlib.util.find_spec(name) is not None
]

# How long an example takes depends on what else the machine does, and says nothing of what is tested.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

_TEST_PASSWORD = "for-tests-only"


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No test sees the developer's settings, credentials or state folder; yields the state folder."""
    for name in list(os.environ):
        if name.startswith(("INGEST_", "AWS_", "XDG_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    state = tmp_path / "state"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("INGEST_STATE_DIR", str(state))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield state
    if (state / "redis" / "server.json").exists():
        stop(Settings(state_dir=state))


@pytest.fixture
def state_dir(isolated_environment: Path) -> Path:
    """The test's own state folder, not made yet; a bundled Redis started in it is stopped afterwards."""
    return isolated_environment


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of a real Redis of this test process, on a Unix socket with a password."""
    folder = Path(tempfile.mkdtemp(prefix="ingest-test-", dir="/tmp"))
    socket = folder / "redis.sock"
    config = folder / "redis.conf"
    config.write_text(f'port 0\nunixsocket {socket}\ndir {folder}\nrequirepass {_TEST_PASSWORD}\nsave ""\n')
    log = (folder / "log").open("wb")
    with log, subprocess.Popen([find_binary().path, config], stdout=log, stderr=log) as process:
        try:
            url = f"unix://:{_TEST_PASSWORD}@{socket}"
            _await_answer(url, process)
            yield url
        finally:
            process.terminate()
    shutil.rmtree(folder)


def _await_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        assert process.poll() is None, "the Redis for the tests ended"
        try:
            with redis.Redis.from_url(url, retry=None) as client:
                client.ping()
        except redis.ConnectionError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("the Redis for the tests does not answer")


@pytest.fixture
def redis_url(redis_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty Redis, also set as ``INGEST_REDIS_URL``."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
        monkeypatch.setenv("INGEST_REDIS_URL", redis_server)
        yield redis_server
        client.flushall()
