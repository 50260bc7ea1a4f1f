"""Slots of a job, on a real Redis, by threads and by processes that die."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import redis

from ingest.errors import RedisUnreachable, Stopped
from ingest.leased_slots import LeasedSlots
from ingest.ledger import Ledger
from ingest.processors import LocalSlots, Slots
from tests.engine.making import until
from tests.restartable import restartable_redis

HOLDER = """
import sys, time
from ingest.leased_slots import LeasedSlots
from ingest.ledger import Ledger
with LeasedSlots(Ledger(sys.argv[1], "j1"), ttl_s=1.0).take("host", 1):
    print("held", flush=True)
    time.sleep(60)
"""


def stopped() -> None:
    raise Stopped("this node was asked to stop")


def leased(url: str, ttl_s: float = 2.0, check: Callable[[], None] = lambda: None) -> LeasedSlots:
    return LeasedSlots(Ledger(url, "j1"), check, ttl_s=ttl_s)


@contextmanager
def holder(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the only slot."""
    command = [sys.executable, "-P", "-c", HOLDER, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def most_at_once(slots: list[Slots], takers: int, at_once: int) -> int:
    """How many of many takers were inside at the same time, at most."""
    inside, most, lock = 0, 0, threading.Lock()

    def take(mine: Slots) -> None:
        nonlocal inside, most
        with mine.take("host", at_once):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.03)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=take, args=(slots[i % len(slots)],)) for i in range(takers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return most


def test_no_more_are_taken_at_once_than_may_be_over_all_nodes(redis_url: str) -> None:
    assert most_at_once([leased(redis_url) for _ in range(3)], takers=15, at_once=4) == 4


def test_local_ones_hold_for_their_process() -> None:
    assert most_at_once([LocalSlots()], takers=12, at_once=3) == 3


def test_names_do_not_share(redis_url: str) -> None:
    slots = leased(redis_url)
    with slots.take("one", 1), slots.take("other", 1):
        pass


def test_one_is_free_at_once_when_it_is_let_go(redis_url: str) -> None:
    slots = leased(redis_url, ttl_s=60)
    for _ in range(5):
        with slots.take("host", 1):
            pass
    with pytest.raises(ZeroDivisionError), slots.take("host", 1):
        raise ZeroDivisionError
    began_s = time.monotonic()
    with slots.take("host", 1):
        assert time.monotonic() - began_s < 1


def test_one_is_kept_for_longer_than_a_lease(redis_url: str) -> None:
    with holder(redis_url):
        for _ in range(6):
            time.sleep(0.5)
            assert not leased(redis_url)._taken("ingest:{j1}:slots:host", "another", 1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_one_comes_free_when_its_holder_dies_or_stands_still(redis_url: str, how: signal.Signals) -> None:
    with holder(redis_url) as process:
        process.send_signal(how)
        began_s = time.monotonic()

        with leased(redis_url, ttl_s=1.0).take("host", 1):
            assert time.monotonic() - began_s < 3


def test_waiting_is_interrupted(redis_url: str) -> None:
    orders: list[None] = []
    check: Callable[[], None] = lambda: stopped() if orders else None  # noqa: E731
    with leased(redis_url, ttl_s=60).take("host", 1):
        threading.Timer(0.3, orders.append, [None]).start()
        began_s = time.monotonic()

        with pytest.raises(Stopped), leased(redis_url, check=check).take("host", 1):
            pass
        assert 0.2 < time.monotonic() - began_s < 2


def test_one_leaves_nothing_in_redis(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        with leased(redis_url).take("host", 2):
            assert 0 < client.pttl("ingest:{j1}:slots:host") <= 2000
        assert client.exists("ingest:{j1}:slots:host") == 0


def test_renewal_ends_with_the_last_one_held(redis_url: str) -> None:
    slots = leased(redis_url, ttl_s=0.3)
    with ExitStack() as stack:
        stack.enter_context(slots.take("host", 2))
        stack.enter_context(slots.take("host", 2))
        assert [t.name for t in threading.enumerate()].count("slots") >= 1
    until(lambda: not slots._renews, 5)
    with slots.take("host", 1):
        time.sleep(0.5)
        assert not leased(redis_url)._taken("ingest:{j1}:slots:host", "another", 1)


def test_a_redis_that_is_away_is_waited_for() -> None:
    with restartable_redis() as server:
        server.kill()
        with pytest.raises(RedisUnreachable), LeasedSlots(Ledger(server.url, "j1")).take("h", 1):
            pass
        threading.Timer(0.5, server.start).start()

        with LeasedSlots(Ledger(server.url, "j1"), patience_s=30).take("h", 1):
            pass
