"""``cancel``, ``retry`` and ``complete`` called together: one of them has its way, and the job is whole."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest import manifest
from ingest.config import Settings
from ingest.errors import JobError
from ingest.feeder import Feeder
from ingest.job import Job
from ingest.ledger import State
from ingest.workers.watch import Watch
from tests.audit import audit, make_files
from tests.engine.jobs_by_hand import feed, job_over, work
from tests.engine.making import files_below

ROUNDS = 8


@pytest.fixture(autouse=True)
def no_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes have no orders but the test's."""
    monkeypatch.setattr(Watch, "of", classmethod(lambda cls, presence, node, process: cls()))


def later(call: Callable[[Job], object], wait_s: float) -> Callable[[Job], object]:
    """The call, so much later than the others."""

    def wait_and_call(job: Job) -> object:
        time.sleep(wait_s)
        return call(job)

    return wait_and_call


def together(job_id: str, *calls: Callable[[Job], object]) -> list[str]:
    """Call all at once, each as a command of its own would; what each came to."""
    barrier = threading.Barrier(len(calls))
    said = [""] * len(calls)

    def call(place: int) -> None:
        job = Job(job_id, Settings.load())
        _ = job.completion  # its import takes longer than all the rest
        barrier.wait()
        try:
            said[place] = str(calls[place](job))
        except JobError as error:
            said[place] = f"refused: {error.what}"

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert all(said), f"one ended with another error: {said}"
    return said


@pytest.mark.timeout(240)
def test_complete_and_cancel(tmp_path: Path, redis_url: str) -> None:
    ends: Counter[State] = Counter()
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        expected = make_files(folder / "source", 12)
        job = job_over(folder)
        feed(job)
        work(job)

        cancel = later(Job.cancel, number * 0.04)
        said = together(job.job_id, Job.complete, cancel, Job.complete, cancel)

        end = job.ledger.state()
        ends[end] += 1
        assert files_below(folder / "stored") == expected, "what is stored stays"
        if end is State.COMPLETE:
            audit(job, expected, files_below(folder / "stored"))
            assert any(answer.startswith("refused") for answer in said), said
        else:
            assert end is State.CANCELLED, said
            assert job.ledger.client.exists(job.ledger.key("payloads"), job.ledger.key("committed")) == 0
    print(dict(ends))


@pytest.mark.timeout(240)
def test_retry_cancel_and_complete_of_a_failed_job(tmp_path: Path, redis_url: str) -> None:
    """A failed job cannot be cancelled before it is reopened; it is reopened once, whoever asks."""
    ends: Counter[State] = Counter()
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        expected = make_files(folder / "source", 12)
        job = job_over(folder)
        bad = folder / "source" / sorted(expected)[3]
        content = bad.read_bytes()
        processors = job.processors()
        feeder = Feeder(job.config, job.ledger, job.queue, processors, job.keys(processors), job.context.grid)
        while not job.status().counts.enumerated:
            feeder.step()
        bad.unlink()
        work(job)
        assert job.complete() is State.FAILED
        bad.write_bytes(content)
        before = job.status().counts.batches

        together(job.job_id, Job.retry, Job.cancel, Job.complete, Job.retry)

        end = job.ledger.state()
        ends[end] += 1
        assert end in (State.UPLOADING, State.CANCELLED)
        if end is State.UPLOADING:
            assert job.status().counts.batches == before + 1, "reopened twice"
            work(job)
            assert job.complete() is State.COMPLETE
            audit(job, expected, files_below(folder / "stored"))
            rows = [*manifest.read_manifest(job.store, job.job_id, job.settings.scratch)]
            assert len(rows) == len(expected)
    print(dict(ends))
