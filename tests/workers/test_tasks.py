"""A batch from its lease to its commit, on a real Redis and a real folder, without Celery."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.app import trace
from celery.exceptions import Reject

from ingest.errors import ConfigError, RedisUnreachable, SourceAway, SourceChanged, Stopped
from ingest.items import FileItem
from ingest.job import Job
from ingest.ledger import State, Tally, pack_items
from ingest.manifest import decode_part, part_key
from ingest.news import News
from ingest.presence import Orders
from ingest.queue import make_app
from ingest.stores.base import Stored
from ingest.stores.local import LocalStore
from ingest.workers import patience, tasks
from ingest.workers.batch import Kit
from ingest.workers.hands import Hands
from ingest.workers.kit import make_kit
from ingest.workers.tasks import register_task, run_batch, run_task
from ingest.workers.watch import Watch
from tests.audit import make_files
from tests.engine.jobs_by_hand import begin, feed, job_over, work
from tests.engine.making import files_below
from tests.stores.helpers import keys


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for long."""
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(tasks, "TRY_AGAIN_AFTER_S", 0.01)


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A job of one batch of three files, one of which is missing."""
    job = job_over(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "source" / name).write_bytes(name.encode())
    items = [FileItem("a", 1), FileItem("b", 1), FileItem("gone", 1)]
    job.ledger.feed(0, [pack_items(list(items))], items=3, size_bytes=3, cursor='"gone"', last=True)
    return job


@pytest.fixture
def kit(job: Job, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    """A process's kit for it, whose orders come from the test."""
    monkeypatch.setattr(Watch, "of", classmethod(lambda cls, presence, node, process: cls()))
    kit = make_kit(job, "n1")
    yield kit
    kit.close()


def test_a_batch_is_stored_noted_and_counted_once(job: Job, kit: Kit) -> None:
    assert run_batch(job, kit, 0)

    counts = job.status().counts
    assert (counts.done, counts.failed, counts.committed, counts.objects) == (2, 1, 1, 2)
    assert keys(job.store) == ["a", "b"]
    ((batch, known),) = job.ledger.parts(1)
    part = decode_part(job.store.read_bytes(part_key(job.job_id, batch, known.token)), "p")
    assert part["key"].to_pylist() == ["a", "b"]
    assert [failure.item.name for failure in job.failures()] == ["gone"]

    assert not run_batch(job, kit, 0), "its message came twice"
    assert job.status().counts == counts


def test_a_batch_whose_process_died_after_the_put_counts_the_same(
    job: Job, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = job.ledger.commit

    def die(batch: int, tally: Tally, **options: str) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(job.ledger, "commit", die)
    with pytest.raises(KeyboardInterrupt):
        run_batch(job, kit, 0)
    monkeypatch.setattr(job.ledger, "commit", commit)

    assert run_batch(job, kit, 0)

    counts = job.status().counts
    # A folder does not tell who stored a file, so what is found there is not claimed.
    assert (counts.done, counts.skipped, counts.failed, counts.objects) == (0, 2, 1, 0)


def test_an_attempt_that_was_stopped_does_not_count(job: Job, kit: Kit) -> None:
    kit.watch.follow(Orders(stopping="now"))

    with pytest.raises(Stopped):
        run_batch(job, kit, 0)

    assert job.status().counts.committed == 0
    assert begin(job, 0).number == 1


@pytest.fixture
def shared(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job of five files into a folder that others write to, where what exists may not be taken for the job's."""
    monkeypatch.setattr(Watch, "of", classmethod(lambda cls, presence, node, process: cls()))
    make_files(tmp_path / "source", 5)
    (tmp_path / "stored").mkdir()
    (tmp_path / "stored" / "of another").touch()
    job = job_over(tmp_path, destination={"url": f"file://{tmp_path}/stored", "on_existing": "fail"})
    feed(job)
    return job


def test_what_a_failed_item_had_stored_is_no_conflict_when_it_is_tried_again(
    tmp_path: Path, shared: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [*files_below(tmp_path / "source")][1]
    put = LocalStore.put

    def put_and_fail(store: LocalStore, key: str, *arguments: Any, **options: Any) -> Stored:
        stored = put(store, key, *arguments, **options)
        if key == failing:
            raise SourceChanged(f"{key} changed")
        return stored

    monkeypatch.setattr(LocalStore, "put", put_and_fail)
    work(shared)
    monkeypatch.setattr(LocalStore, "put", put)
    assert shared.complete() is State.FAILED
    assert [failure.item.name for failure in shared.failures()] == [failing]

    shared.retry()
    work(shared)

    assert shared.complete() is State.COMPLETE
    counts = shared.status().counts
    assert (counts.done, counts.skipped, counts.failed) == (4, 1, 0)


def test_what_an_attempt_that_was_stopped_had_stored_is_no_conflict(
    tmp_path: Path, shared: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, expected = shared, files_below(tmp_path / "source")
    kit = make_kit(job, "n1")
    put = LocalStore.put

    def put_and_stop(store: LocalStore, *arguments: Any, **options: Any) -> Stored:
        stored = put(store, *arguments, **options)
        kit.watch.follow(Orders(stopping="now"))
        return stored

    monkeypatch.setattr(LocalStore, "put", put_and_stop)
    with pytest.raises(Stopped):
        run_batch(job, kit, 0)
    monkeypatch.setattr(LocalStore, "put", put)
    there = set(files_below(tmp_path / "stored")) & set(expected)
    assert there
    kit.close()

    work(job)

    counts = job.status().counts
    assert [*job.failures()] == []
    assert (counts.done, counts.skipped) == (5 - len(there), len(there))


@pytest.mark.parametrize("state", [State.CANCELLING, State.COMPLETE, State.EXPIRED])
def test_a_job_that_takes_no_work_is_left_alone(job: Job, kit: Kit, state: State) -> None:
    job.ledger.note(state=state)

    assert not run_batch(job, kit, 0)
    assert keys(job.store) == []


@pytest.mark.parametrize("step", ["begin", "suspects.hold", "commit"])
def test_a_redis_that_is_away_for_a_moment_is_waited_for(
    job: Job, kit: Kit, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Above all an item that is tried by itself is not blamed for it."""
    begin(job, 0)
    piece, _, name = step.rpartition(".")
    owner = getattr(job.ledger, piece) if piece else job.ledger
    real = getattr(owner, name)
    away = [RedisUnreachable("away")] * 3

    def flaky(*arguments: object, **options: object) -> object:
        if away:
            raise away.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, flaky)

    assert run_batch(job, kit, 0)
    assert not away
    assert job.status().counts.done == 2


def test_what_cannot_be_done_here_goes_back_to_the_queue_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("ingest.workers.tasks.time.sleep", slept.append)

    def no_kit() -> tuple[Job, Kit]:
        raise ConfigError("the source is not mounted here")

    with pytest.raises(Reject) as rejected:
        run_task(no_kit, 0)

    assert vars(rejected.value)["requeue"]
    assert slept, "it would come back at once, for ever"


@pytest.mark.parametrize("fault", [SourceAway("the tag is out of reach"), ZeroDivisionError("by zero")])
def test_why_batches_go_back_for_weeks_is_said_once_in_a_while(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "_news", News())

    def no_kit() -> tuple[Job, Kit]:
        raise fault

    for number in range(50):
        with pytest.raises(Reject):
            run_task(no_kit, number)

    [said] = caplog.records
    assert said.getMessage().startswith("batch 0 goes back to the queue")


def test_celery_says_nothing_of_batches_that_go_back(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    register_task(make_app(job.ledger.url, job.job_id, 60.0), job.job_id, "n1", job.settings, Hands())
    logger = logging.getLogger("celery.app.trace")

    for policy in (trace.log_policy_reject, trace.log_policy_unexpected):
        logger.warning("a batch", extra={"data": {"description": policy.description}})

    assert [record.__dict__["data"]["description"] for record in caplog.records] == [
        trace.log_policy_unexpected.description
    ]


def test_what_was_stopped_goes_back_at_once(job: Job, kit: Kit) -> None:
    kit.watch.follow(Orders(stopping="now"))

    with pytest.raises(Reject) as rejected:
        run_task(lambda: (job, kit), 0)

    assert vars(rejected.value)["requeue"]
