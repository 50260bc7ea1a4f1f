"""A node's process: started under a name, asked to stop, and not started where it could do nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery.exceptions import WorkerShutdown

from ingest.cli.node_process import LOGS_KEPT_S, remove_old_logs
from ingest.job import Job
from ingest.ledger import Kills
from ingest.node_name import new_node_name
from ingest.queue import make_app
from ingest.workers.consumer import consumer_for
from tests.cluster import Command, descendants, run
from tests.engine.jobs_by_hand import begin, feed, job_over
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
        "ingest.workers",
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


def test_a_user_of_redis_without_a_right_that_nodes_need_is_told_which(
    job: Job, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one made without channels, which Redis 7 gives to nobody by itself."""
    (tmp_path / "source" / "a.dat").write_bytes(b"a")
    client: Any = job.ledger.client
    client.execute_command("ACL", "SETUSER", "me", "on", ">hushhush", "~*", "+@all", "resetchannels")
    monkeypatch.setenv("INGEST_REDIS_URL", redis_url.replace(":for-tests-only", "me:hushhush"))
    try:
        ended = run("join", "-j", job.job_id, "-p", "1", timeout_s=30)
    finally:
        client.acl_deluser("me")

    assert ended.returncode == 5
    assert "one of the channels" in ended.stderr
    assert "&*" in ended.stderr.partition("hint:")[2]
    assert "hushhush" not in ended.stderr


def test_a_redis_that_takes_no_more_connections_is_not_waited_for_without_an_end(job: Job) -> None:
    client: Any = job.ledger.client
    client.ping()
    consumer = consumer_for(job.ledger.url, patience_s=0)
    app = make_app(job.ledger.url, job.job_id, lease_s=60)
    client.config_set("maxclients", 1)
    try:
        with pytest.raises(WorkerShutdown):
            consumer.__new__(consumer).ensure_connected(app.connection_for_read())
    finally:
        client.config_set("maxclients", 10_000)

    assert "cannot be reached" in str(consumer.ended_for)


@pytest.fixture
def held(tmp_path: Path, redis_url: str) -> Job:
    """A job of one file that takes minutes, whose batch was begun once and lost: the next holds its item."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "long.dat").write_bytes(bytes(256 << 10))
    upload = {"threads": 1, "bandwidth_bytes_per_s": 1024}
    job = job_over(tmp_path, upload=upload, queue={"lease_s": 60})
    feed(job)
    begin(job, 0)
    return job


def holds(job: Job) -> bool:
    """Whether a node tries an item of the first batch by itself."""
    return bool(job.ledger.client.hexists(job.ledger.key("in_hand"), "0"))


def test_an_item_is_not_blamed_where_its_node_was_asked_to_stop_and_killed(held: Job) -> None:
    with Command("join", "-j", held.job_id, "-p", "1", "--json") as command:
        until(lambda: holds(held))

        # When the node is asked to stop, and killed before it has finished, as by `docker stop`
        command.process.terminate()
        until(lambda: any(node.stopping for node in held.presence.nodes()))
        until(lambda: held.ledger.client.scard(held.ledger.key("left")), timeout_s=2)
        command.kill()

    assert begin(held, 0).kills == {}


def test_an_item_is_not_blamed_where_its_node_was_left_alone(held: Job) -> None:
    quick = "import ingest.presence as p; p.STOP_WITHIN_S = 1.0; from ingest.workers.node import main; main()"
    command = [sys.executable, "-P", "-c", quick, held.job_id, "--processes", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as node:
        until(lambda: holds(held))

        # When who started it is gone, and what it has in hand takes longer than it may
        assert node.stdin is not None
        node.stdin.close()
        assert node.wait(30) == -signal.SIGKILL

    assert begin(held, 0).kills == {}


def test_an_item_is_not_blamed_where_its_process_was_cut_off_and_comes_back(held: Job) -> None:
    with Command("join", "-j", held.job_id, "-p", "1", "--json"):
        until(lambda: holds(held))

        # When its lease has run out, and another takes it for dead
        assert begin(held, 0).kills == {0: Kills(1)}

        # Then the process, which lives, puts that right
        until(lambda: begin(held, 0).kills == {0: Kills(0)}, timeout_s=10)


def test_a_process_that_died_has_nothing_in_hand(held: Job) -> None:
    with Command("join", "-j", held.job_id, "-p", "2", "--json") as command:
        until(lambda: [node.in_hand for node in held.presence.nodes()] == [("long.dat",)])
        client: Any = held.ledger.client
        holder = client.hget(held.ledger.key("in_hand"), "0").decode().split()[-1]

        # When the process that has an item in hand dies, then another has it, and it alone
        assert int(holder) in descendants(command.process.pid)
        os.kill(int(holder), signal.SIGKILL)
        until(lambda: begun(held) == 3)
        until(lambda: times_in_hand(held) == 1, timeout_s=20)


def begun(job: Job) -> int:
    """How often the first batch was begun."""
    client: Any = job.ledger.client
    return int(client.hget(job.ledger.key("attempts"), "0"))


def times_in_hand(job: Job) -> int:
    """How many processes are said to have something in hand."""
    return sum(len(node.in_hand) for node in job.presence.nodes())


def test_a_node_waits_for_a_job_that_its_input_names_and_ends_when_none_comes(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = job.ledger.url
    monkeypatch.setenv("INGEST_REDIS_URL", "redis://127.0.0.1:1")  # what its input says counts
    command = [sys.executable, "-P", "-m", "ingest.workers", "--processes", "1"]
    nodes = [subprocess.Popen([*command, "--name", name], stdin=subprocess.PIPE) for name in ("one", "two")]
    try:
        one, two = nodes
        assert one.stdin is not None
        assert two.stdin is not None

        two.stdin.close()
        one.stdin.write(json.dumps({"job_id": job.job_id, "redis_url": url}).encode() + b"\n")
        one.stdin.flush()

        assert two.wait(20) == 0
        until(lambda: [node.node for node in job.presence.nodes()] == ["one"])
        one.stdin.close()
        assert one.wait(20) == 0
    finally:
        for node in nodes:
            node.kill()
            node.wait()


def test_a_command_that_fails_before_it_has_a_job_leaves_no_node_and_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("INGEST_SCRATCH_DIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"name": "unfinished"}))

    made = run("create", str(tmp_path / "config.json"), "--yes")

    assert made.returncode == 2, made.stderr
    assert not (tmp_path / "state" / "logs").exists()
    assert not list((tmp_path / "scratch").iterdir())
    assert not [process for process in psutil.process_iter() if str(tmp_path) in _scratch_of(process)]


def test_logs_of_long_ago_go_and_those_of_late_stay(tmp_path: Path) -> None:
    old, late = tmp_path / "k7f3q2xm-1.log", tmp_path / "k7f3q2xm-2.log"
    for log, age_s in ((old, LOGS_KEPT_S + 3600), (late, LOGS_KEPT_S - 3600)):
        log.write_text("worker: Warm shutdown")
        os.utime(log, (0, time.time() - age_s))

    remove_old_logs(tmp_path)

    assert list(tmp_path.glob("*.log")) == [late]


def _scratch_of(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return process.environ().get("INGEST_SCRATCH_DIR", "")
    return ""


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
