"""Watches a job's processes while a trial runs: memory and CPU by role, Redis's memory, and the job's counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import psutil

from ingest.config import Settings
from ingest.errors import IngestError
from ingest.job import Job
from ingest.ledger import Counts, State
from ingest.redis_client import connect
from ingest.redis_server import running

ROLES = ("coordinator", "node", "process", "redis")
"""The command that coordinates; its node; that node's pool processes; the Redis of the job."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment.

    Attributes:
        at_s: by a steady clock.
        state: the job's.
        counts: the job's.
        used_memory: bytes that Redis says it uses.
        pss_bytes: by role, resident memory; a page that n processes share counts as 1/n of one for each.
        rss_bytes: by role, the greatest resident memory of any one process.
        cpu_s: by role, since the processes began.
    """

    at_s: float
    state: State
    counts: Counts
    used_memory: int
    pss_bytes: dict[str, int]
    rss_bytes: dict[str, int]
    cpu_s: dict[str, float]

    @property
    def items(self) -> int:
        """Items that have come to an end."""
        return self.counts.done + self.counts.skipped + self.counts.failed


@dataclass(slots=True)
class Watching:
    """Takes samples of a command and of what it started, until told to stop."""

    settings: Settings
    pid: int
    every_s: float = 1.0
    samples: list[Sample] = field(default_factory=list)
    before_bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _known: dict[int, tuple[str, psutil.Process]] = field(default_factory=dict)

    def __enter__(self) -> Watching:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        job = self._await_job()
        while job is not None and not self._stop.is_set():
            began_s = time.monotonic()
            with suppress(IngestError):
                self.samples.append(self._sample(job))
            self._stop.wait(max(0.01, began_s + self.every_s - time.monotonic()))

    def _await_job(self) -> Job | None:
        while not self._stop.wait(0.05):
            server = running(self.settings)
            if server is None:
                continue
            self._known[server.pid] = ("redis", psutil.Process(server.pid))
            with connect(server.url) as client:
                self.before_bytes = self.before_bytes or server.memory_bytes
                found = cast("list[bytes]", client.zrange("ingest:jobs", 0, 0))
            if found:
                return Job(found[0].decode(), self.settings)
        return None

    def _sample(self, job: Job) -> Sample:
        state, counts, _ = job.ledger.snapshot()
        memory = cast("dict[str, int]", job.ledger.client.info("memory"))["used_memory"]
        pss, rss, cpu = (dict.fromkeys(ROLES, 0) for _ in range(3))
        for role, process in self._processes():
            with suppress(psutil.NoSuchProcess):
                times, full = process.cpu_times(), process.memory_full_info()
                pss[role] += full.pss
                rss[role] = max(rss[role], full.rss)
                cpu[role] += times.user + times.system
        return Sample(time.monotonic(), state, counts, memory, pss, rss, cast("dict[str, float]", cpu))

    def _processes(self) -> list[tuple[str, psutil.Process]]:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            for process in (root, *root.children(recursive=True)):
                if process.pid not in self._known:
                    self._known[process.pid] = (self._role(process), process)
        return list(self._known.values())

    def _role(self, process: psutil.Process) -> str:
        if process.pid == self.pid:
            return "coordinator"
        return "node" if process.ppid() == self.pid else "process"


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent between two samples of a job that uploads.

    Attributes:
        cpu_us: by role, microseconds of CPU an item.
    """

    items: int
    wall_s: float
    cpu_us: dict[str, float]

    @property
    def items_per_s(self) -> float:
        """The rate."""
        return self.items / self.wall_s

    @property
    def our_cpu_us(self) -> float:
        """Microseconds of CPU an item, of all processes but Redis."""
        return sum(us for role, us in self.cpu_us.items() if role != "redis")


def spent(samples: Sequence[Sample]) -> Spent:
    """From the first sample that has items to the last one of the same speed, before the job completes."""
    uploading = [sample for sample in samples if sample.state is State.UPLOADING and sample.items]
    if len(uploading) < 2:
        raise RuntimeError("the job was over too soon to be measured: give it more items")
    first, last = uploading[0], uploading[-1]
    items = last.items - first.items
    cpu_us = {role: (last.cpu_s[role] - first.cpu_s[role]) / items * 1e6 for role in ROLES}
    return Spent(items, last.at_s - first.at_s, cpu_us)


def completing_s(samples: Sequence[Sample]) -> float:
    """Seconds for which the job was seen completing: its manifest was written."""
    seen = [sample.at_s for sample in samples if sample.state is State.COMPLETING]
    return seen[-1] - seen[0] if seen else 0.0


def at_parts(samples: Sequence[Sample], *parts: float) -> list[Sample]:
    """The samples at which these parts of the items were done, and the one with the largest coordinator at the end."""
    total = max(sample.items for sample in samples)
    return [next(sample for sample in samples if sample.items >= part * total) for part in parts]


def greatest(samples: Sequence[Sample], of: Callable[[Sample], int]) -> int:
    """The greatest value of any sample."""
    return max((of(sample) for sample in samples), default=0)


def as_json(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """All of them."""
    return [asdict(sample) for sample in samples]
