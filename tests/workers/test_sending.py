"""Uploads on their way: all come back, no more is held than may be, and none begins once they are given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ingest.errors import Stopped
from ingest.items import FileItem
from ingest.processors import Upload
from ingest.workers.pace import Pace
from ingest.workers.sending import GATHER_S, Sending
from ingest.workers.upload import Outcome, Task


def task(name: str, size_bytes: int = 1, *, is_streamed: bool = False) -> Task:
    return Task(FileItem(name), name, Upload(b""), size_bytes, is_streamed, None, again=False)


def stored(task: Task) -> Outcome:
    return Outcome(task.key, task.size_bytes, "", None, "", "stored")


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def test_all_come_back_with_their_outcome_or_their_error(executor: ThreadPoolExecutor) -> None:
    def store(task: Task) -> Outcome:
        if task.key == "7":
            raise ZeroDivisionError(task.key)
        return stored(task)

    sending = Sending(store, executor, Pace(4), 1 << 20, lambda: None)
    sent = [sending.send(task(str(number))) for number in range(100)]
    for one in reversed(sent):
        sending.wait_for(one)
    sending.end()

    assert [one.outcome.key for one in sent if one.outcome] == [str(n) for n in range(100) if n != 7]
    assert isinstance(sent[7].error, ZeroDivisionError)
    assert all(one.task is None for one in sent), "its bytes are still held"


def test_what_ends_by_no_exception_comes_back_too(executor: ThreadPoolExecutor) -> None:
    class Panic(BaseException):
        pass

    def store(task: Task) -> Outcome:
        raise Panic

    sending = Sending(store, executor, Pace(4), 1 << 20, lambda: None)
    sent = sending.send(task("a"))
    sending.wait_for(sent)
    sending.end()

    assert isinstance(sent.error, Panic)


def test_no_more_is_held_than_may_be_and_what_is_larger_passes_alone(executor: ThreadPoolExecutor) -> None:
    lock = threading.Lock()
    held: list[int] = []
    most = 0

    def store(task: Task) -> Outcome:
        nonlocal most
        with lock:
            held.append(task.held_bytes)
            most = max(most, sum(held))
            assert task.held_bytes <= 100 or sum(held) == task.held_bytes, "it did not pass alone"
        threading.Event().wait(0.001)
        with lock:
            held.remove(task.held_bytes)
        return stored(task)

    sending = Sending(store, executor, Pace(4), 100, lambda: None)
    sizes = [30, 60, 1000, 100, 1, 99, 0] * 20
    sent = [sending.send(task(str(number), size)) for number, size in enumerate(sizes)]
    for one in sent:
        sending.wait_for(one)
    sending.end()

    assert [one.error for one in sent if one.error] == []
    assert 100 <= most <= 1000


def test_what_is_streamed_takes_no_room(executor: ThreadPoolExecutor) -> None:
    hold = threading.Event()

    def store(task: Task) -> Outcome:
        assert hold.wait(10)
        return stored(task)

    sending = Sending(store, executor, Pace(4), 10, lambda: None)
    first = sending.send(task("whole", 10))
    second = sending.send(
        task("streamed", 1 << 40, is_streamed=True)
    )  # where it waited for room, this would hang
    hold.set()
    for one in (first, second):
        sending.wait_for(one)
    sending.end()


def test_given_up_what_has_begun_is_waited_for_and_the_rest_never_begins(
    executor: ThreadPoolExecutor,
) -> None:
    begun = threading.Semaphore(0)
    go_on = threading.Event()
    done: list[str] = []

    def store(task: Task) -> Outcome:
        begun.release()
        assert go_on.wait(10)
        done.append(task.key)
        return stored(task)

    sending = Sending(store, executor, Pace(2), 1 << 20, lambda: None)
    sent = [sending.send(task(str(number))) for number in range(19)]
    time.sleep(2 * GATHER_S)
    sent.append(sending.send(task("19")))
    for _ in range(2):
        assert begun.acquire(timeout=10)
    threading.Timer(0.05, go_on.set).start()
    sending.give_up()
    sending.end()

    assert sorted(done) == ["0", "1"]
    assert all(one.is_over for one in sent)
    assert [one.outcome for one in sent[2:]] == [None] * 18


def test_who_is_stopped_sends_nothing(executor: ThreadPoolExecutor) -> None:
    def stop() -> None:
        raise Stopped("now")

    sending = Sending(stored, executor, Pace(2), 10, stop)
    with pytest.raises(Stopped):
        sending.send(task("x"))
    sending.give_up()
    sending.end()


def test_what_is_made_slowly_is_handed_over_at_once(executor: ThreadPoolExecutor) -> None:
    begun = threading.Semaphore(0)

    def store(task: Task) -> Outcome:
        begun.release()
        return stored(task)

    sending = Sending(store, executor, Pace(2), 1 << 20, lambda: None)
    for number in range(3):
        time.sleep(2 * GATHER_S)  # it takes so long to be made
        sent = sending.send(task(str(number)))
        assert begun.acquire(timeout=10)
    sending.wait_for(sent)
    sending.end()
