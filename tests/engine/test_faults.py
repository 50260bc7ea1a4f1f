"""A job that loses a node, its Redis and its store on the way, and ends as if nothing had happened."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ingest.config import Settings
from ingest.job import Job
from tests.audit import audit, make_files
from tests.cluster import Command
from tests.restartable import RestartableRedis, RestartableS3, restartable_redis, restartable_s3
from tests.s3_servers import use_credentials

ITEMS = 1500
STORE_AWAY_S = 8


def _config(folder: Path, root: Path, s3: RestartableS3, **changes: Any) -> Path:
    config = {
        "name": "faults",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": str(root)}},
        "destination": {
            "url": "s3://data/run",
            "endpoint_url": s3.server.endpoint_url,
            "region": "us-east-1",
        },
        "upload": {"threads": 4, "bandwidth_bytes_per_s": 50_000},
        "queue": {"batch_items": 20, "lease_s": 4, "max_batches": 30},
        **changes,
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.timeout(240)
def test_a_job_survives_its_node_its_redis_and_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        # Given a job that three nodes share
        redis: RestartableRedis = stack.enter_context(restartable_redis())
        s3: RestartableS3 = stack.enter_context(restartable_s3(tmp_path / "s3"))
        use_credentials(monkeypatch, s3.server)
        monkeypatch.setenv("INGEST_REDIS_URL", redis.url)
        expected = make_files(tmp_path / "source", ITEMS)
        config = _config(tmp_path, tmp_path / "source", s3)
        first = stack.enter_context(Command("create", str(config), "--yes", "--json", "-p", "1"))
        job_id = first.job_id
        second, third = (
            stack.enter_context(Command("join", "-j", job_id, "--json", "-p", "2")) for _ in range(2)
        )
        third.progressed(60)

        # When one is killed with all its processes
        third.kill()
        second.progressed(300)

        # and Redis dies and comes back
        redis.kill()
        time.sleep(1)
        redis.start()
        reached = Job(job_id, Settings.load()).status().counts.done
        second.progressed(reached + 100)

        # and the store is away for a while
        s3.stop()
        second.wait_for(lambda event: bool(event.get("pause")))
        time.sleep(STORE_AWAY_S)
        s3.start()

        # Then the job completes, and all is there once
        ended = second.exit_code(150)
        assert ended == 0, [failure.reason for failure in Job(job_id, Settings.load()).failures()][:3]
        assert first.exit_code() == 0
        status = audit(Job(job_id, Settings.load()), expected, s3.files("run"))
        assert status["state"] == "complete"
