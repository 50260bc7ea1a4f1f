"""Jobs that are stopped: cancelled, interrupted, expired, or without their Redis."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from ingest.ledger import State
from ingest.queue import queue_name
from tests.audit import audit, make_files
from tests.cluster import Command, descendants, is_running
from tests.engine.conftest import Invoke
from tests.engine.making import (
    MIB,
    bucket_of,
    files_below,
    files_config,
    keys_in_redis,
    objects,
    open_job,
    s3_folder,
    unfinished_uploads,
    until,
)
from tests.restartable import restartable_redis
from tests.s3_servers import S3Server

SLOW_BIG = {"threads": 4, "multipart_threshold_bytes": 5 * MIB, "part_size_bytes": 5 * MIB}


def big_files(root: Path, *names: str) -> None:
    """Sparse files, each of which takes minutes at the tests' bandwidth."""
    root.mkdir(exist_ok=True)
    for name in names:
        with (root / name).open("wb") as file:
            file.truncate(200 * MIB)


def sending(job_id: str) -> int:
    """How many processes have sent the first part of a big file."""
    hands = [hand for node in open_job(job_id).status().nodes for hand in node.in_hand]
    return sum(" MiB" in hand and ": 0 of" not in hand for hand in hands)


@pytest.mark.timeout(180)
def test_cancel_stops_every_node_in_the_middle_of_a_file(
    tmp_path: Path,
    redis_url: str,
    rclone_s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    invoke: Invoke,
) -> None:
    # Given two nodes, each in the middle of a big file, after some small ones
    make_files(tmp_path / "source" / "a", 20)
    big_files(tmp_path / "source", "big-1", "big-2")
    destination = s3_folder(rclone_s3, monkeypatch)
    bucket = bucket_of(destination)
    upload = {**SLOW_BIG, "bandwidth_bytes_per_s": 3 * MIB}
    config = files_config(tmp_path, tmp_path / "source", destination, upload=upload)
    with Command("create", str(config), "--yes", "--json", "-p", "1") as first:
        job_id = first.job_id
        with Command("join", "-j", job_id, "--json", "-p", "1") as second:
            until(lambda: sending(job_id) == 2)
            job = open_job(job_id)
            assert len(unfinished_uploads(rclone_s3, bucket)) == 2

            # When one is interrupted twice, then it stops at once, and its batch goes back
            second.interrupt()
            until(lambda: any("once more to stop at once" in line for line in second.errors))
            second.interrupt()
            began_s = time.monotonic()
            assert second.exit_code() == 130
            assert time.monotonic() - began_s < 5
            until(lambda: job.queue.waiting() == 1)
            assert job.ledger.client.hlen(job.ledger.key("in_hand")) == 0

        with Command("join", "-j", job_id, "--json", "-p", "1") as third:
            until(lambda: sending(job_id) == 2)

            # When the job is cancelled
            with Command("cancel", "-j", job_id, "--yes", "--delete-uploaded") as cancel:
                until(lambda: job.ledger.state() is State.CANCELLING)
                began_s = time.monotonic()
                assert (first.exit_code(), third.exit_code()) == (4, 4)
                stopped_s = time.monotonic() - began_s
                assert cancel.exit_code() == 0, cancel.errors

    # Then both nodes have stopped within five seconds, and nothing is left but the record
    assert stopped_s < 5
    assert third.events[-1]["exit_code"] == 4
    assert job.ledger.state() is State.CANCELLED
    assert unfinished_uploads(rclone_s3, bucket) == []
    assert objects(rclone_s3, bucket) == {}
    assert not [key for key in keys_in_redis(redis_url) if queue_name(job_id) in key]
    work = ("payloads", "attempts", "in_hand", "kills", "uploads", "committed", "pause")
    assert job.ledger.client.exists(*map(job.ledger.key, work)) == 0

    # and it may be cancelled again, but nothing else
    assert invoke("cancel", "-j", job_id, "--yes").exit_code == 0
    for command, code in (("join", 4), ("retry", 2), ("complete", 2)):
        done = invoke(command, "-j", job_id)
        assert done.exit_code == code, done.output
        assert "is cancelled" in done.stderr


@pytest.mark.timeout(180)
def test_an_interrupted_node_says_how_to_go_on(tmp_path: Path, redis_url: str) -> None:
    expected = make_files(tmp_path / "source", 120)
    upload = {"threads": 4, "bandwidth_bytes_per_s": 40_000}
    stored = tmp_path / "stored"
    queue = {"batch_items": 5}
    config = files_config(tmp_path, tmp_path / "source", f"file://{stored}", upload=upload, queue=queue)
    with Command("create", str(config), "--yes", "--json", "-p", "1") as node:
        job = open_job(node.job_id)
        node.progressed(10)

        # When it is interrupted, then it finishes what it has in hand, and says how to go on
        node.interrupt()
        assert node.exit_code() == 130
        assert f"ingest join -j {job.job_id}" in "".join(node.errors)
    status = job.status()
    assert status.state is State.UPLOADING
    assert status.nodes == ()
    assert 0 < status.counts.done < 120
    assert status.counts.done == 5 * status.counts.committed
    assert len(files_below(stored)) == status.counts.done, "nothing was cut off"

    # and so does one that the system ends
    with Command("join", "-j", job.job_id, "--json", "-p", "1") as node:
        until(lambda: job.status().counts.done > status.counts.done)
        node.process.send_signal(signal.SIGTERM)
        assert node.exit_code() == 130

    # and the next completes it, with each item counted once
    with Command("join", "-j", job.job_id, "--json", "-p", "3") as node:
        assert node.exit_code() == 0
    audit(job, expected, files_below(stored))
    assert job.status().counts.skipped == 0


@pytest.mark.timeout(180)
def test_a_job_expires_with_all_it_left_half_done(
    tmp_path: Path,
    redis_url: str,
    rclone_s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    invoke: Invoke,
) -> None:
    big_files(tmp_path / "source", "big-1")
    destination = s3_folder(rclone_s3, monkeypatch)
    bucket = bucket_of(destination)
    upload = {**SLOW_BIG, "bandwidth_bytes_per_s": 3 * MIB}
    config = files_config(
        tmp_path, tmp_path / "source", destination, upload=upload, expires_after_days=12 / 86_400
    )
    with Command("create", str(config), "--yes", "--json", "-p", "1") as node:
        job = open_job(node.job_id)

        # When its days have passed in the middle of a file, then its nodes stop
        assert node.exit_code() == 4, node.errors
        assert node.events[-1]["state"] == "expired"

    # and nothing is left half done
    assert invoke("status", "-j", job.job_id).exit_code == 0
    assert job.ledger.state() is State.EXPIRED
    assert unfinished_uploads(rclone_s3, bucket) == []
    assert not [key for key in keys_in_redis(redis_url) if queue_name(job.job_id) in key]
    assert job.ledger.client.exists(*map(job.ledger.key, ("payloads", "attempts", "uploads"))) == 0
    done = invoke("join", "-j", job.job_id)
    assert done.exit_code == 4
    assert "expired" in done.stderr


def test_a_job_that_nobody_works_on_expires_when_it_is_looked_at(
    tmp_path: Path, redis_url: str, invoke: Invoke
) -> None:
    make_files(tmp_path / "source", 5)
    config = files_config(
        tmp_path, tmp_path / "source", f"file://{tmp_path}/stored", expires_after_days=0.5 / 86_400
    )
    done = invoke("create", config, "--yes", "--detach", "--json")
    assert done.exit_code == 0, done.output

    until(lambda: '"expired"' in invoke("list", "--json").stdout)

    assert keys_in_redis(redis_url) <= {"ingest:jobs", *(k for k in keys_in_redis(redis_url) if k[-1] == "}")}


@pytest.mark.timeout(180)
def test_a_node_without_redis_gives_up_with_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path / "source", 200)
    upload = {"threads": 4, "bandwidth_bytes_per_s": 10_000}
    config = files_config(tmp_path, tmp_path / "source", f"file://{tmp_path}/stored", upload=upload)
    with restartable_redis() as server:
        monkeypatch.setenv("INGEST_REDIS_URL", server.url)
        monkeypatch.setenv("INGEST_REDIS_PATIENCE_S", "3")
        with Command("create", str(config), "--yes", "--json", "-p", "1") as node:
            node.progressed(1)
            children = descendants(node.process.pid)

            server.kill()

            assert node.exit_code() == 5, node.errors
        said = "".join(node.errors)
        assert "cannot be reached" in said
        assert "for-tests-only" not in said
        assert not [pid for pid in children if is_running(pid)], "it left processes behind"


@pytest.mark.timeout(180)
def test_a_node_whose_command_was_killed_stops_by_itself(tmp_path: Path, redis_url: str) -> None:
    expected = make_files(tmp_path / "source", 60)
    upload = {"threads": 4, "bandwidth_bytes_per_s": 20_000}
    stored = tmp_path / "stored"
    config = files_config(tmp_path, tmp_path / "source", f"file://{stored}", upload=upload)
    with Command("create", str(config), "--yes", "--json", "-p", "1") as command:
        job = open_job(command.job_id)
        command.progressed(10)
        children = descendants(command.process.pid)
        assert children

        # When the command alone is killed, as by the OOM killer
        os.kill(command.process.pid, signal.SIGKILL)
        command.process.wait()

        # Then its node finishes what it has in hand, and goes
        until(lambda: not any(map(is_running, children)))
    assert job.status().counts.done < 60

    with Command("join", "-j", job.job_id, "--json", "-p", "4") as node:
        assert node.exit_code() == 0
    audit(job, expected, files_below(stored))
