"""How many threads uploads get: few where a store answers at once, all where they wait or are large."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest

from ingest.items import FileItem
from ingest.processors import Upload
from ingest.workers.pace import LEAST_THREADS, SMALL_BYTES, Pace
from ingest.workers.sending import Sending
from ingest.workers.upload import Outcome, Task

MOST = 24


def batch(
    pace: Pace,
    *,
    wait_s: float = 0.0,
    size_bytes: int = 1000,
    status: Literal["stored", "skipped"] = "stored",
) -> None:
    """A batch of uploads, each of which waits for its store so long."""

    def store(task: Task) -> Outcome:
        time.sleep(wait_s)
        return Outcome(task.key, task.size_bytes, "", None, "", status)

    with ThreadPoolExecutor(MOST) as executor:
        sending = Sending(store, executor, pace, 1 << 30, lambda: None)
        sent = [
            sending.send(Task(FileItem(str(n)), str(n), Upload(b""), size_bytes, False, None, again=False))
            for n in range(64)
        ]
        for one in sent:
            sending.wait_for(one)
        sending.end()


def test_small_uploads_that_wait_get_all_threads_and_give_them_back() -> None:
    pace = Pace(MOST)
    assert pace.threads == LEAST_THREADS
    batch(pace, wait_s=0.03)
    assert pace.threads == MOST
    batch(pace)
    assert pace.threads == LEAST_THREADS


def test_large_uploads_get_all_threads() -> None:
    pace = Pace(MOST)
    batch(pace, size_bytes=SMALL_BYTES + 1)
    assert pace.threads == MOST


@pytest.mark.parametrize("most", [1, 4])
def test_there_are_never_more_than_may_be(most: int) -> None:
    pace = Pace(most)
    assert pace.threads == most
    for wait_s in (0.01, 0.0):
        batch(pace, wait_s=wait_s)
        assert pace.threads == most


def test_a_batch_that_stores_nothing_changes_nothing() -> None:
    pace = Pace(MOST)
    batch(pace, wait_s=0.03)
    batch(pace, status="skipped")
    assert pace.threads == MOST
