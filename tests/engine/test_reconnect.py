"""Nodes whose Redis goes away, comes back, fills up or takes no writes: they go on with what they have in hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ingest.job import Job
from ingest.ledger import State
from ingest.queue import queue_name
from ingest.transport import lease_keys
from tests.audit import audit
from tests.cluster import Command, run
from tests.engine.making import files_below, files_config, last_job, open_job, until
from tests.restartable import RestartableRedis, restartable_redis
from tests.s3_servers import free_port

SLOW = {"threads": 1, "bandwidth_bytes_per_s": 1024}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RestartableRedis]:
    """A Redis of this test's own."""
    with restartable_redis() as server:
        monkeypatch.setenv("INGEST_REDIS_URL", server.url)
        yield server


def slow_job(folder: Path, seconds: int, files: int, **changes: Any) -> tuple[Path, dict[str, bytes]]:
    """A config of a job of as many batches as files, each of which takes so many seconds; and the files."""
    root = folder / "source"
    root.mkdir()
    expected = {f"rec-{index}.dat": bytes([index]) * 1024 * seconds for index in range(files)}
    for name, content in expected.items():
        (root / name).write_bytes(content)
    queue = {"batch_items": 1, "lease_s": 2, **changes.pop("queue", {})}
    stored = f"file://{folder}/stored"
    return files_config(folder, root, stored, upload=SLOW, queue=queue, **changes), expected


def attempts(job: Job) -> dict[int, int]:
    """How often each batch that is not committed has been begun."""
    client: Any = job.ledger.client
    return {int(batch): int(count) for batch, count in client.hgetall(job.ledger.key("attempts")).items()}


@pytest.mark.timeout(180)
def test_what_is_in_hand_stays_so_while_redis_is_away(tmp_path: Path, server: RestartableRedis) -> None:
    config, expected = slow_job(tmp_path, 16, files=2)
    with ExitStack() as stack:
        # Given a node with two batches in hand, and one that has nothing to do
        first = stack.enter_context(Command("create", str(config), "--yes", "--json", "-p", "2"))
        job = open_job(first.job_id)
        until(lambda: attempts(job) == {0: 1, 1: 1})
        second = stack.enter_context(Command("join", "-j", job.job_id, "--json", "-p", "2"))
        second.wait_for(lambda event: len(event.get("nodes") or ()) == 2)

        # When Redis dies, and is back after more than a lease
        time.sleep(1.1)
        server.kill()
        time.sleep(4)
        server.start()

        # Then nobody begins what the first has in hand, and both go on
        begun: dict[int, int] = {}
        while job.ledger.state() is State.UPLOADING:
            begun |= attempts(job)
            time.sleep(0.1)
        assert begun == {0: 1, 1: 1}
        assert (first.exit_code(), second.exit_code()) == (0, 0), first.errors + second.errors
    audit(job, expected, files_below(tmp_path / "stored"))


def take_no_writes(client: Any, how: str) -> None:
    """Let Redis refuse writes: as it is full, a replica, one that has lost its master, or a master without replicas."""
    if how == "full":
        client.config_set("maxmemory", 1)
    elif how == "no replicas":
        client.config_set("min-replicas-to-write", 1)
    else:
        client.config_set("replica-serve-stale-data", "no" if how == "stale replica" else "yes")
        client.replicaof("127.0.0.1", free_port())


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["full", "replica", "stale replica", "no replicas"])
def test_a_redis_that_takes_no_writes_is_waited_for(
    tmp_path: Path, server: RestartableRedis, how: str
) -> None:
    lease_s = 60 if how in ("stale replica", "no replicas") else 2
    config, expected = slow_job(tmp_path, 2, files=10, queue={"lease_s": lease_s})
    with (
        Command("create", str(config), "--yes", "--json", "-p", "2") as first,
        Command("join", "-j", first.job_id, "--json", "-p", "2") as second,
    ):
        job = open_job(first.job_id)
        client: Any = job.ledger.client
        second.progressed(2)

        # When it takes no writes for a while
        take_no_writes(client, how)
        time.sleep(9)
        assert first.process.poll() is None, first.errors
        assert second.process.poll() is None, second.errors

        # Then the work goes on when it does again, nothing is lost, and what was in hand is not done again
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", 0)
        client.config_set("min-replicas-to-write", 0)
        assert (first.exit_code(), second.exit_code()) == (0, 0), first.errors + second.errors
    audit(job, expected, files_below(tmp_path / "stored"))
    if lease_s == 60:
        assert job.status().counts.skipped == 0, "a batch that was in hand was done again"


@pytest.mark.timeout(120)
def test_a_node_that_stops_politely_keeps_what_it_has_in_hand(
    tmp_path: Path, server: RestartableRedis
) -> None:
    config, _ = slow_job(tmp_path, 10, files=3)
    with (
        Command("create", str(config), "--yes", "--json", "-p", "2") as first,
        Command("join", "-j", first.job_id, "--json", "-p", "3") as second,
    ):
        job = open_job(first.job_id)
        until(lambda: len(attempts(job)) == 3)
        second.wait_for(lambda event: len(event.get("nodes") or ()) == 2)

        # When it is asked to stop, with more to do than one lease
        first.interrupt()
        begun: dict[int, int] = {}
        while first.process.poll() is None:
            begun |= attempts(job)
            time.sleep(0.1)

        # Then nobody begins that, and it finishes it
        assert begun == {0: 1, 1: 1, 2: 1}
        assert first.exit_code() == 130
        assert second.exit_code() == 0
        assert not job.ledger.client.exists(queue_name(job.job_id))


PLUGIN = """
import os, time
from pathlib import Path
from ingest.plugins.files import FileAsIs

class Slow(FileAsIs):
    def check(self):
        super().check()
        if Path(__file__).with_name("slow").exists():
            time.sleep(6)

class SlowAfterDeath(Slow):
    def uploads(self, source):
        marker = Path(__file__).with_name("slow")
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), 9)
        yield from super().uploads(source)
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with processors that take 6 s to be checked once there is a file ``slow`` beside them."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "slow_plugin.py").write_text(PLUGIN)
    monkeypatch.setenv("INGEST_PLUGIN_PATHS", f"{folder}/")
    return folder


@pytest.mark.timeout(120)
def test_a_process_that_takes_long_to_be_ready_is_left_alone(
    tmp_path: Path, server: RestartableRedis, plugins: Path
) -> None:
    processor = {"class": "slow_plugin.SlowAfterDeath"}
    config, expected = slow_job(tmp_path, 1, files=3, tile_processor=processor)

    with Command("create", str(config), "--yes", "--json", "-p", "1") as node:
        job = open_job(node.job_id)
        assert node.exit_code(60) == 0, node.errors
    audit(job, expected, files_below(tmp_path / "stored"))


@pytest.mark.timeout(120)
def test_what_was_taken_but_not_begun_goes_back_at_a_polite_stop(
    tmp_path: Path, server: RestartableRedis, plugins: Path
) -> None:
    config, _ = slow_job(
        tmp_path, 1, files=3, tile_processor={"class": "slow_plugin.Slow"}, queue={"lease_s": 600}
    )
    created = run("create", str(config), "--yes", "--detach", "--json")
    assert created.returncode == 0, created.stderr
    job = last_job()
    client: Any = job.ledger.client
    with Command("join", "-j", job.job_id, "--json", "-p", "1") as node:
        node.wait_for(lambda event: event["event"] == "joined")
        (plugins / "slow").touch()
        until(lambda: client.hlen(lease_keys(queue_name(job.job_id))[1]) == 1)
        assert attempts(job) == {}

        node.interrupt()

        assert node.exit_code() == 130
    assert job.queue.waiting() == 3
    assert attempts(job) == {}
