"""A node's guard ends the process that is over its bounds, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from mmap import PAGESIZE, PROT_READ, mmap
from pathlib import Path

import pytest

from ingest.errors import RedisUnreachable
from ingest.items import FileItem
from ingest.job import Job
from ingest.ledger import pack_items
from ingest.workers import guard as guard_module
from ingest.workers.guard import Bounds, Guard
from ingest.workers.hands import Hands, Held
from ingest.workers.memory import container_memory, memory
from tests.engine.jobs_by_hand import begin, job_over

MIB = 1 << 20
HELD = Held(0, 1, 0.5, 1000.0)


class Process:
    """A process that takes some memory and waits."""

    def __init__(self, size_mib: int = 1) -> None:
        code = f"x = b'x' * ({size_mib} << 20); print(flush=True); input()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def lives(self) -> bool:
        """Whether it has not been ended."""
        time.sleep(0.1)
        return self.process.poll() is None

    def ends(self) -> bool:
        """Whether it is ended, as soon as the machine comes to it."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        return self.process.returncode is not None


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts processes, which end with the test."""
    started: list[Process] = []

    def begin_one(size_mib: int = 1) -> Process:
        started.append(Process(size_mib))
        return started[-1]

    yield begin_one
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A job of one batch of three items, begun once."""
    job = job_over(tmp_path)
    items = [FileItem(name, 1) for name in "abc"]
    job.ledger.feed(0, [pack_items(list(items))], items=3, size_bytes=3, cursor='"c"', last=True)
    begin(job, 0)
    return job


class HandsOf(Hands):
    """What other processes have in hand, as the test says."""

    def __init__(self, held: dict[int, Held]) -> None:
        super().__init__()
        self.held = held

    def read(self, process: int) -> Held | None:
        return self.held.get(process)


def guard_of(job: Job, hands: Hands, bounds: Bounds, *processes: Process) -> Guard:
    return Guard(job.ledger, "n1", lambda: [one.process.pid for one in processes], hands, bounds)


def looks(guard: Guard, seconds: float) -> None:
    for _ in range(round(seconds / guard_module.LOOK_EVERY_S)):
        guard.look()


class TestTime:
    bounds = Bounds(item_timeout_s=3, memory_bytes=None, processes=2)

    def test_over_the_limit_ends_the_process_and_blames_its_item(
        self, job: Job, start: Callable[..., Process]
    ) -> None:
        hanging, other = start(), start()
        guard = guard_of(job, HandsOf({hanging.process.pid: HELD}), self.bounds, hanging, other)

        looks(guard, 2.4)
        assert hanging.lives()
        looks(guard, 0.6)

        assert hanging.ends()
        assert other.lives()
        kills = begin(job, 0).kills
        assert list(kills) == [1]
        assert kills[1].times == 2
        assert "for 3 s, and queue.item_timeout_s is 3 s" in kills[1].why

    def test_begins_anew_with_each_call(self, job: Job, start: Callable[..., Process]) -> None:
        one = start()
        hands = HandsOf({one.process.pid: HELD})
        guard = guard_of(job, hands, self.bounds, one)

        for call in range(5):
            hands.held[one.process.pid] = Held(0, 1, 0.0, 1000.0 + call)
            looks(guard, 2)

        assert one.lives()

    def test_waits_for_redis_to_hear_of_it(
        self, job: Job, start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ended without a word, the process would begin with the same item again."""
        one = start()
        guard = guard_of(job, HandsOf({one.process.pid: HELD}), self.bounds, one)
        blame = job.ledger.suspects.blame

        def away(*arguments: object) -> bool:
            raise RedisUnreachable("away")

        monkeypatch.setattr(job.ledger.suspects, "blame", away)
        looks(guard, 4)
        assert one.lives()

        monkeypatch.setattr(job.ledger.suspects, "blame", blame)
        guard.look()
        assert one.ends()
        assert list(begin(job, 0).kills) == [1]

    def test_is_not_counted_without_a_limit(self, job: Job, start: Callable[..., Process]) -> None:
        one = start()
        guard = guard_of(job, HandsOf({one.process.pid: HELD}), Bounds(None, None, 1), one)
        looks(guard, 5)
        assert one.lives()


class TestMemory:
    def test_over_the_bound_ends_the_process_with_a_note(
        self, job: Job, start: Callable[..., Process]
    ) -> None:
        greedy, modest = start(200), start()
        guard = guard_of(job, Hands(), Bounds(None, 100 * MIB, 2), greedy, modest)
        job.ledger.suspects.hold(0, 2, "n1", greedy.process.pid)

        guard.look()

        assert greedy.ends()
        assert modest.lives()
        (kills,) = begin(job, 0).kills.values()
        assert kills.times == 1
        assert "took 0.2 GiB of memory, and INGEST_PROCESS_MEMORY_BYTES is 0.1 GiB" in kills.why

    def test_does_not_count_files_that_are_mapped(self, tmp_path: Path) -> None:
        (tmp_path / "day.mseed").write_bytes(bytes(64 * MIB))
        before = guard_module._memory_of(os.getpid())
        with (tmp_path / "day.mseed").open("rb") as file, mmap(file.fileno(), 0, prot=PROT_READ) as mapped:
            assert not any(mapped[place] for place in range(0, 64 * MIB, PAGESIZE))
            after = guard_module._memory_of(os.getpid())
        assert before is not None and after is not None
        assert after - before < 16 * MIB

    def test_that_is_scarce_ends_the_largest(
        self, job: Job, start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            guard_module, "SPARE_AFTER_KILL_S", 60.0
        )  # a slow machine passes two between looks
        large, larger = start(200), start(300)
        guard = guard_of(job, Hands(), Bounds(None, None, 9), large, larger)
        there = [(1000 * MIB, 100 * MIB)]
        monkeypatch.setattr(guard_module, "memory", lambda: there[0])
        guard.look()
        assert larger.lives(), "there is enough"

        there[0] = (1000 * MIB, 50 * MIB)
        guard.look()

        assert larger.ends()
        guard.look()
        assert large.lives(), "what the first had may not have been counted yet"

    def test_that_others_took_ends_nothing(
        self, job: Job, start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = start(200)
        guard = guard_of(job, Hands(), Bounds(None, None, 1), one)
        monkeypatch.setattr(guard_module, "memory", lambda: (1000 * MIB, 1 * MIB))
        guard.look()
        assert one.lives(), "it has less than its share"

    def test_of_this_machine_is_known(self) -> None:
        total_bytes, left_bytes = memory()
        assert 0 < left_bytes < total_bytes

    def test_of_a_container_is_its_limit_without_what_the_kernel_may_drop(self, tmp_path: Path) -> None:
        (tmp_path / "memory.max").write_text("1000\n")
        (tmp_path / "memory.current").write_text("900\n")
        (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 300\n")
        assert container_memory(tmp_path) == (1000, 400)
        (tmp_path / "memory.max").write_text("max\n")
        assert container_memory(tmp_path) is None
        assert container_memory(tmp_path / "none") is None


def test_a_fault_in_one_look_is_not_the_last(
    job: Job, start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "LOOK_EVERY_S", 0.01)
    asked: list[int] = []

    def processes() -> list[int]:
        asked.append(os.getpid())
        raise RuntimeError("the pool changes")

    guard = Guard(job.ledger, "n1", processes, Hands(), Bounds(1, 1, 1))
    guard.start()
    time.sleep(0.2)
    guard.stop()
    assert len(asked) > 1
    assert not guard.is_alive()
