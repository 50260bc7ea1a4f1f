from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest import coordinator as coordinator_module
from ingest import manifest
from ingest.coordinator import Coordinator
from ingest.duty import Duty
from ingest.errors import BucketMissing, SourceUnreadable, StoreRefused
from ingest.job import Job
from ingest.ledger import State, Tally
from ingest.manifest import read_manifest, write_part
from ingest.queue import make_app, queue_name
from tests.engine.jobs_by_hand import Listing, feeder_of, job_over
from tests.engine.making import keys_in_redis, until
from tests.restartable import restartable_redis

PATHS = [f"f{number:02}" for number in range(20)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for long."""
    monkeypatch.setattr(coordinator_module, "LOST_AFTER_S", 0.0)
    monkeypatch.setattr(coordinator_module, "TROUBLE_WAIT_S", 0.05)
    monkeypatch.setattr(coordinator_module, "IDLE_S", 0.02)


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A job over twenty files, in batches of five."""
    (tmp_path / "source").mkdir()
    for path in PATHS:
        (tmp_path / "source" / path).touch()
    return job_over(tmp_path)


def commit(job: Job, *batches: int) -> None:
    for batch in batches:
        write_part(job.store, job.job_id, batch, "t", [])
        assert job.ledger.commit(batch, Tally({"done": 5}), part="t")


@contextmanager
def running(coordinator: Coordinator) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=coordinator.run, args=(stop,))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def test_what_is_lost_from_the_queue_is_queued_again(job: Job) -> None:
    coordinator = Coordinator(job, "n1")
    while coordinator.step():
        pass
    assert job.queue.known() == {0, 1, 2, 3}
    commit(job, 1)
    job.ledger.client.delete(queue_name(job.job_id))

    # When it is missed for the first time, then perhaps a node has just taken it
    coordinator.step()
    assert job.queue.known() == set()

    # When it is missed again, then it is lost
    coordinator.step()
    assert job.queue.known() == {0, 2, 3}
    assert job.queue.waiting() == 3


def test_what_a_node_has_in_hand_is_not_lost(job: Job) -> None:
    coordinator = Coordinator(job, "n1")
    while coordinator.step():
        pass
    app = make_app(job.ledger.url, job.job_id, 60)
    with app.connection_for_read() as connection, connection.SimpleQueue(app.conf.task_queues[0]) as queue:
        messages = [queue.get(timeout=5) for _ in range(4)]
        for _ in range(4):
            coordinator.step()
        assert job.queue.waiting() == 0
        messages[0].ack()
        for _ in range(4):
            coordinator.step()
        assert job.queue.waiting() == 1, "one that was acknowledged and is not committed is lost"
        for message in messages[1:]:
            message.ack()


def test_the_last_commit_completes_the_job(job: Job) -> None:
    coordinator = Coordinator(job, "n1")
    while coordinator.step():
        pass
    commit(job, 0, 1, 2)
    coordinator.step()
    assert job.ledger.state() is State.UPLOADING

    commit(job, 3)
    coordinator.step()

    assert job.ledger.state() is State.COMPLETE
    assert [*read_manifest(job.store, job.job_id, job.settings.scratch)] == []
    assert not coordinator.step()


def test_a_job_that_is_complete_leaves_its_record_in_redis_and_no_more(job: Job) -> None:
    """What grows with its batches would fill a Redis of many jobs."""
    coordinator = Coordinator(job, "n1")
    while coordinator.step():
        pass
    job.ledger.begin(0)
    commit(job, 0, 1, 2, 3)
    job.ledger.suspects.stopped_by_itself("n2")
    coordinator.step()
    coordinator.let_go()

    assert job.ledger.state() is State.COMPLETE
    assert keys_in_redis(job.ledger.url) == {"ingest:jobs", job.ledger.key()}


def test_a_job_that_was_left_completing_is_completed(job: Job) -> None:
    first = Coordinator(job, "n1")
    while first.step():
        pass
    commit(job, 0, 1, 2, 3)
    job.ledger.transition(State.COMPLETING, State.UPLOADING)
    first.let_go()

    Coordinator(job, "n2").step()

    assert job.ledger.state() is State.COMPLETE


def test_a_job_that_another_completed_meanwhile_is_in_no_trouble(
    job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a coordinator that was asleep while it wrote the manifest."""
    coordinator = Coordinator(job, "n1")
    while coordinator.step():
        pass
    commit(job, 0, 1, 2, 3)
    really = manifest.complete

    def complete(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(manifest, "complete", really)
        Job(job.job_id, job.settings).complete()
        really(*args, **options)

    monkeypatch.setattr(manifest, "complete", complete)
    with running(coordinator):
        until(lambda: "is not completed any more" in caplog.text, timeout_s=20)

    status = job.status()
    assert (status.state, status.trouble) == (State.COMPLETE, "")


def test_a_job_for_a_person_waits_for_the_word(tmp_path: Path, redis_url: str) -> None:
    job = job_over(tmp_path, manual_complete=True)
    coordinator = Coordinator(job, "n1")
    for _ in range(3):
        coordinator.step()

    assert job.ledger.state() is State.UPLOADED
    assert job.complete() is State.COMPLETE


def test_only_one_does_it(job: Job) -> None:
    first, second = Coordinator(job, "n1"), Coordinator(job, "n2")
    first.step()
    assert not second.step()
    assert job.ledger.snapshot()[1].batches == 4
    first.let_go()
    second.step()
    assert second._duty.hold()
    assert not first.step()


def test_the_duty_is_kept_however_long_a_step_takes(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `ingest complete` does it, whose one step writes the whole manifest."""
    monkeypatch.setattr(coordinator_module, "DUTY_TTL_S", 2.0)
    first, second = Coordinator(job, "n1"), Duty(job.ledger, "n2")
    first._duty = Duty(job.ledger, "n1", ttl_s=2.0)
    with first.on_duty():
        first.step()
        time.sleep(3.0)
        assert not second.hold()
    assert second.hold()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SourceUnreadable("the folder x cannot be listed"), "cannot be listed"),
        (ZeroDivisionError("division by zero"), "division by zero"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_trouble_is_told_and_waited_out(job: Job, error: Exception, said: str) -> None:
    """Whatever a path processor raises."""
    coordinator = Coordinator(job, "n1")
    listing = Listing(PATHS)
    mended = threading.Event()

    def paths(after: str | None = None, listed: Callable[..., object] = listing.paths) -> object:
        if not mended.is_set():
            raise error
        return listed(after)

    listing.paths = paths  # type: ignore[assignment, method-assign]
    coordinator.__dict__["_feeder"] = feeder_of(job, listing)

    with running(coordinator) as thread:
        until(lambda: said in job.status().trouble, timeout_s=20)
        assert thread.is_alive()
        assert job.ledger.state() is State.PREPARING

        mended.set()
        until(lambda: job.ledger.snapshot()[1].enumerated, timeout_s=20)
        assert job.status().trouble == ""


def unable_to_complete(job: Job, monkeypatch: pytest.MonkeyPatch, error: Exception) -> Coordinator:
    """The coordinator of a job that is done, and that this node cannot complete for this error."""

    def fail(job: Job) -> State:
        raise error

    monkeypatch.setattr(Job, "complete", fail)
    coordinator = Coordinator(job, "n1")
    while coordinator.step():
        pass
    commit(job, 0, 1, 2, 3)
    return coordinator


def test_a_node_whose_disk_is_full_leaves_the_duty_to_another(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_space = OSError(errno.ENOSPC, "No space left on device", "/scratch/manifest.parquet")
    coordinator = unable_to_complete(job, monkeypatch, no_space)

    with running(coordinator):
        until(lambda: "no space is left" in job.status().trouble)
        until(Duty(job.ledger, "n2").hold)
        coordinator.raise_trouble()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StoreRefused("the store refuses this node"), "refuses this node"),
        (BucketMissing("the folder is not mounted here"), "not mounted here"),
        (RuntimeError("can't start new thread"), "no more processes or threads"),
    ],
)
def test_a_node_that_cannot_complete_a_job_leaves_the_duty_to_another(
    job: Job, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    with running(unable_to_complete(job, monkeypatch, error)):
        until(lambda: said in job.status().trouble)
        until(Duty(job.ledger, "n2").hold)


@pytest.mark.timeout(90)
def test_a_redis_that_dies_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may die anywhere in a step; the duty is done when it is back."""
    monkeypatch.setattr(coordinator_module, "IDLE_S", 0.0)
    with restartable_redis() as server:
        monkeypatch.setenv("INGEST_REDIS_URL", server.url)
        job = job_over(tmp_path, queue={"batch_items": 1, "max_batches": 4})
        coordinator = Coordinator(job, "n1")
        listing = Listing([f"f{number:04}" for number in range(400)])
        coordinator.__dict__["_feeder"] = feeder_of(job, listing)
        with running(coordinator) as thread:
            for _ in range(2):
                until(lambda: _commit_next(job, but=399) > 2, timeout_s=20)
                server.kill()
                server.start()
            until(lambda: not thread.is_alive() or _commit_next(job, but=399) == 399, timeout_s=60)
            assert thread.is_alive()
        _, counts, _ = job.ledger.snapshot()
        assert (counts.items_listed, counts.done) == (400, 399)


def _commit_next(job: Job, but: int) -> int:
    """Commit what is fed, ``but`` one batch: a job all done would look for its manifest's parts, and there are none.

    Returns how many are committed.
    """
    _, counts, _ = job.ledger.snapshot()
    for batch in job.ledger.uncommitted(counts.batches):
        if batch != but:
            job.ledger.commit(batch, Tally({"done": 1}), part="t")
    return job.ledger.snapshot()[1].committed
