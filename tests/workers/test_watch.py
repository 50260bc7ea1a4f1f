"""A process goes on looking for its orders, whatever becomes of one look."""

from __future__ import annotations

import threading

import pytest

from ingest.errors import RedisUnreachable, Stopped
from ingest.ledger import State
from ingest.presence import Orders, ProcessReport
from ingest.workers import watch as watch_module
from ingest.workers.watch import Watch
from tests.engine.making import until


def test_a_look_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "POLL_S", 0.01)
    faults: list[Exception] = [ValueError("no JSON"), RedisUnreachable("away"), KeyError("x")]

    def exchange(report: ProcessReport) -> Orders:
        if faults:
            raise faults.pop()
        return Orders(State.CANCELLING)

    watch = Watch(exchange)
    watch.check()
    watch.start()

    until(lambda: not faults, timeout_s=5)
    with pytest.raises(Stopped, match="the job is cancelling"):
        watch.sleep(5)


def test_nothing_is_asked_before_it_is_started() -> None:
    asked = threading.Event()

    def exchange(report: ProcessReport) -> Orders:
        asked.set()
        return Orders()

    before = threading.active_count()
    watch = Watch(exchange)

    assert threading.active_count() == before
    assert not asked.is_set()
    watch.poll()
    assert asked.is_set()


def test_who_is_to_stop_finishes_what_it_has_in_hand_but_waits_for_nothing_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch_module, "PATIENT_WHEN_STOPPING_S", 0.05)
    watch = Watch()

    watch.follow(Orders(stopping="soon", pause="the store is down"))

    watch.check()
    watch.check_waiting()  # which may be back at once
    with pytest.raises(Stopped, match="is not back"):
        watch.wait_while_paused()
    with pytest.raises(Stopped, match="is not back"):
        watch.check_waiting()
    watch.check()
