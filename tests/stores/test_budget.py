from __future__ import annotations

import threading
import time

import pytest

from ingest.errors import Stopped
from ingest.stores.budget import BytesBudget


def test_it_is_never_overdrawn_and_all_come_through() -> None:
    budget = BytesBudget(100)
    lock = threading.Lock()
    held = most = 0

    def hold(size_bytes: int) -> None:
        nonlocal held, most
        for _ in range(30):
            with budget.held(size_bytes, lambda: None):
                with lock:
                    held += min(size_bytes, 100)
                    most = max(most, held)
                time.sleep(0.0001)
                with lock:
                    held -= min(size_bytes, 100)

    threads = [threading.Thread(target=hold, args=(size,)) for size in (1, 30, 60, 99, 100, 1000, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not any(thread.is_alive() for thread in threads), "one waits for ever"
    assert held == 0
    assert 0 < most <= 100


def test_who_waits_can_be_stopped_and_takes_nothing() -> None:
    budget = BytesBudget(10)

    def stop() -> None:
        raise Stopped("now")

    with budget.held(10, lambda: None), pytest.raises(Stopped):
        budget.acquire(1, stop)

    budget.acquire(10, stop)


def test_what_is_held_is_given_back_after_an_error() -> None:
    budget = BytesBudget(10)
    with pytest.raises(KeyError), budget.held(10, lambda: None):
        raise KeyError

    budget.acquire(10, lambda: pytest.fail("it is not free"))
