"""A process that cannot make its kit leaves nothing behind, and says why."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import IngestError, StoreRefused
from ingest.job import Job
from ingest.leased_slots import LeasedSlots
from ingest.stores.retry import RetryingStore
from ingest.workers.batch import Kit
from ingest.workers.hands import Hands, Held
from ingest.workers.kit import kit_for, make_kit
from ingest.workers.watch import Watch
from tests.audit import make_files
from tests.engine.jobs_by_hand import job_over
from tests.engine.making import until


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A job with a node that is there."""
    make_files(tmp_path / "source", 1)
    job = job_over(tmp_path)
    job.presence.announce("n1", {"host": "h1"})
    return job


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def trouble(job: Job) -> str:
    return job.presence.nodes()[0].trouble


def refuse(job: Job) -> None:
    raise StoreRefused("there are no credentials")


@pytest.mark.parametrize("what", ["store", "source"])
def test_a_kit_that_cannot_be_made_leaves_no_thread(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "store":
        monkeypatch.setattr(Job, "open_store", refuse)
    else:
        shutil.move(tmp_path / "source", tmp_path / "elsewhere")

    def fail() -> None:
        with pytest.raises(IngestError):
            kit_for(job.job_id, "n1", job.settings)

    fail()
    threads, files = threading.active_count(), open_files()
    for _ in range(5):
        fail()
    assert threading.active_count() == threads
    assert open_files() <= files + 2
    assert ("credentials" if what == "store" else "source") in trouble(job)

    # When it can, then nothing is said of it any more
    monkeypatch.undo()
    monkeypatch.setenv("INGEST_STATE_DIR", str(tmp_path / "state"))
    if what == "source":
        shutil.move(tmp_path / "elsewhere", tmp_path / "source")
    monkeypatch.setattr(Watch, "start", lambda watch: None)
    _, kit = kit_for(job.job_id, "n1", job.settings)
    assert trouble(job) == ""
    kit.executor.shutdown()


@pytest.fixture
def timed(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Job, Kit, Hands]]:
    """A job whose items may take a minute, a kit for it, and what its processors have in hand."""
    monkeypatch.setattr(Watch, "start", lambda watch: None)
    make_files(tmp_path / "source", 1)
    job, hands = job_over(tmp_path, queue={"item_timeout_s": 60}), Hands()
    kit = make_kit(job, "n1", hands)
    yield job, kit, hands
    kit.close()


def test_to_wait_for_a_slot_is_not_an_items_time(timed: tuple[Job, Kit, Hands]) -> None:
    job, kit, hands = timed
    process = os.getpid()
    slots = kit.processors.path.context.slots
    begun: list[Held | None] = []

    def take() -> Held | None:
        with kit.processor_time.of(0, 3):
            begun.append(hands.read(process))
            with slots.take("host", 1):
                return hands.read(process)

    with ThreadPoolExecutor(1) as other, LeasedSlots(job.ledger).take("host", 1):
        taken = other.submit(take)
        until(lambda: begun and hands.read(process) is None, 5)
        time.sleep(0.5)
        assert not taken.done()
        assert hands.read(process) is None
    held = taken.result()

    assert held is not None
    assert (held.batch, held.index) == (0, 3)
    assert held.spent_s < 0.5


def test_what_a_processor_says_it_waits_for_is_not_an_items_time(timed: tuple[Job, Kit, Hands]) -> None:
    _, kit, hands = timed
    process = os.getpid()
    context = kit.processors.path.context

    with kit.processor_time.of(0, 3):
        assert hands.read(process) is not None
        with context.waiting():
            assert hands.read(process) is None
            time.sleep(0.2)
        held = hands.read(process)

    assert held is not None
    assert held.spent_s < 0.2


def test_passing_faults_are_repeated_by_one_store_alone(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "start", lambda watch: None)
    _, kit = kit_for(job.job_id, "n1", job.settings)

    store: Any = kit.store
    retrying = 0
    while hasattr(store, "_store"):
        retrying += isinstance(store, RetryingStore)
        store = store._store
    assert retrying == 1
    kit.executor.shutdown()
