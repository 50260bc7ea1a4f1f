"""What a person sees of a job that runs, waits and ends."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ingest.cli.live_screen import LiveScreen
from ingest.cli.output import human_time
from ingest.cli.screens import end_lines
from ingest.job import Job
from ingest.ledger import Counts, State
from ingest.presence import NodeInfo
from ingest.progress import ProgressMeter
from ingest.status import Status
from tests.cli.conftest import Run
from tests.cluster import Command
from tests.engine.jobs_by_hand import job_over
from tests.engine.making import until
from tests.restartable import restartable_redis

COUNTS = Counts(-1, 100, 1000, 10, 0, True, 0, 0, 0, 0, 0, 0, 0, 0)
RUNNING = Status("k7f3q2xm", "trial", State.UPLOADING, COUNTS, (), 0, "", "", "s3://bucket/run", 1, None)


def drawn(status: Status, width: int) -> str:
    """A live screen's picture on a terminal so wide."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    screen = LiveScreen(console)
    console.print(screen._picture(status))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_of_a_long_path_the_end_is_shown_where_it_differs() -> None:
    path = "deployment-07/audio-recordings/rec_2026-06-08T59_äöü.wav"
    status = replace(RUNNING, nodes=(NodeInfo("vm-418-186a", "vm", 2, 3.0, 4e6, (path,)),), node_count=1)

    assert "…o-recordings/rec_2026-06-08T59_äöü.wav\n" in drawn(status, 78)
    assert f"  {path}\n" in drawn(status, 120)


def test_a_node_in_trouble_says_which_from_its_beginning() -> None:
    node = NodeInfo("vm-418-186a", "vm", 2, trouble="the source is not mounted here: " + "x" * 80)

    assert "not ready: the source is not mounted" in drawn(replace(RUNNING, nodes=(node,)), 80)


@pytest.mark.parametrize("state", [State.FAILED, State.UPLOADED])
def test_what_is_to_be_typed_next_fits_on_a_line(state: State) -> None:
    status = replace(RUNNING, state=state, ended_s=90_000, counts=replace(COUNTS, failed=1))

    commands = [line for line in end_lines(status) if "ingest " in line]

    assert commands
    assert all(len(line) <= 80 for line in commands)


def test_nobody_says_how_long_a_job_takes_that_waits() -> None:
    meter = ProgressMeter()
    meter.read(RUNNING)
    moved = replace(RUNNING, counts=replace(COUNTS, done=10, bytes_done=100))

    assert (meter.read(moved).left_s or 0) > 0
    assert meter.read(replace(moved, pause="the store is down")).left_s is None


def test_a_watch_waits_while_redis_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with restartable_redis() as server:
        monkeypatch.setenv("INGEST_REDIS_URL", server.url)
        job = job_over(tmp_path)
        with Command("status", "-j", job.job_id, "--watch", "--json") as watch:
            until(lambda: bool(watch.events))
            server.kill()
            until(lambda: watch.events[-1]["event"] == "waiting")
            server.start()
            until(lambda: watch.events[-1]["event"] == "progress")
            job.cancel()
            assert watch.exit_code() == 0

    assert watch.events[-1]["event"] == "ended"


def test_a_watch_gives_up_where_redis_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_REDIS_PATIENCE_S", "1")
    with restartable_redis() as server:
        monkeypatch.setenv("INGEST_REDIS_URL", server.url)
        job = job_over(tmp_path)
        with Command("status", "-j", job.job_id, "--watch", "--json") as watch:
            until(lambda: bool(watch.events))
            server.kill()
            assert watch.exit_code() == 5


def test_a_job_that_waits_for_a_word_says_for_which(tmp_path: Path, redis_url: str, run: Run) -> None:
    job = uploaded(job_over(tmp_path, manual_complete=True))

    for arguments in ((), ("--watch",)):
        result = run("status", "-j", job.job_id, *arguments)

        assert result.exit_code == 0
        assert f"ingest complete -j {job.job_id}" in result.stdout


def test_status_says_when_a_job_was_made_and_when_it_ended(tmp_path: Path, redis_url: str, run: Run) -> None:
    job = job_over(tmp_path)
    made = f"created {human_time(job.record.created_s)}"

    assert f"\n{made}\n" in run("status", "-j", job.job_id).stdout

    job.cancel()
    ended_s = job.status().ended_s

    assert ended_s is not None
    assert f"\n{made}, ended {human_time(ended_s)}\n" in run("status", "-j", job.job_id).stdout


def test_a_damaged_job_hides_no_other(tmp_path: Path, redis_url: str, run: Run) -> None:
    fine, *damaged = (job_over(tmp_path) for _ in range(3))
    damaged[0].ledger.note(config="{}")
    damaged[1].ledger.note(batches="x")

    result = run("list")

    assert result.exit_code == 0
    assert fine.job_id in result.stdout
    assert all(f"the record of job {job.job_id} in Redis is damaged" in result.stderr for job in damaged)


def uploaded(job: Job) -> Job:
    """The job, over no file at all, with nothing left to upload."""
    job.ledger.client.hset(job.ledger.key(), "state", str(State.UPLOADED))
    return job
