"""A node's process: started under a name, asked to stop, and not started where it could do nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.job import Job
from ingest.presence import new_node_name
from tests.cluster import run
from tests.engine.jobs_by_hand import job_over
from tests.engine.making import create, files_config, s3_folder, until
from tests.s3_servers import S3Server


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A new job, which lists its files when a coordinator does."""
    return job_over(tmp_path)


def test_a_node_is_known_by_the_name_that_its_command_gave_it(job: Job) -> None:
    name = new_node_name()
    command = [
        sys.executable,
        "-P",
        "-m",
        "ingest.workers.node",
        job.job_id,
        "--name",
        name,
        "--processes",
        "1",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as node:
        until(lambda: [node.node for node in job.presence.nodes()] == [name])
        assert node.stdin is not None

        # When whoever started it is gone, then it goes too
        node.stdin.close()
        assert node.wait(20) == 0
    assert job.presence.nodes() == []


def test_a_node_without_credentials_is_not_started(
    tmp_path: Path, redis_url: str, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_bytes(b"a")
    job = create(files_config(tmp_path, tmp_path / "source", s3_folder(rclone_s3, monkeypatch)), "--detach")
    for name in [name for name in os.environ if name.startswith("AWS_") and "KEY" in name]:
        monkeypatch.delenv(name)

    joined = run("join", "-j", job.job_id, "-p", "1")

    assert joined.returncode == 6, joined.stderr
    assert "credentials" in joined.stderr
    assert job.presence.nodes() == []
