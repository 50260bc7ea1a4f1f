"""Working on a job until it ends: what ``create`` and ``join`` have in common."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from types import FrameType

from ingest.cli.node_process import NodeProcess
from ingest.cli.patience import Patience
from ingest.cli.screens import Screen
from ingest.clock import clock_trouble
from ingest.coordinator import Coordinator
from ingest.errors import RedisError
from ingest.job import Job
from ingest.ledger import State
from ingest.presence import EVENTS_EVERY_S, STOP_WITHIN_S, NodeSample
from ingest.status import Status

LOOK_EVERY_S = 0.5
STATUSES_PER_S = 500  # of all nodes together, where there are many
CANCEL_WITHIN_S = 1.0
LINGER_S = 2.0
HURRY_BEFORE_S = 5.0


@dataclass(slots=True)
class Asked:
    """How often a person asked to stop, by Ctrl-C or SIGTERM."""

    times: int = 0
    _words: SimpleQueue[None] = field(default_factory=SimpleQueue)  # a signal may come while it is in use

    def hear(self, number: int, frame: FrameType | None) -> None:
        """A signal came."""
        self.times += 1
        self.wake()

    def wake(self) -> None:
        """End :meth:`wait`, or the next one."""
        self._words.put(None)

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a signal or a call of :meth:`wake`."""
        with contextlib.suppress(Empty):
            self._words.get(timeout=seconds)


@contextlib.contextmanager
def listening() -> Iterator[Asked]:
    """Within it, SIGINT and SIGTERM are counted instead of ending the process."""
    asked = Asked()
    before = {number: signal.signal(number, asked.hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def work(job: Job, node: NodeProcess, screen: Screen) -> int:
    """Let a node work on a job, and the coordinator's duty where it is free, until the job ends.

    Returns:
        The exit code: 0, 3 or 4 by the job's end; 130 where a person stopped this node.

    Raises:
        RedisError: Redis was away for longer than ``INGEST_REDIS_PATIENCE_S``, or does not let the node work.
        Stopped: the node was killed.
        IngestError: it ended by itself, or the job's source cannot be listed.
    """
    with listening() as asked:
        coordinator = Coordinator(job, node.name, asked.wake)
        stop = threading.Event()
        duty = threading.Thread(target=coordinator.run, args=(stop,), name="coordinator", daemon=True)
        duty.start()
        try:
            with screen:
                _remark_on_clock(job, screen)
                status = _watch(job, node, coordinator, screen, asked)
            if status is None:
                return _stop_politely(job, node, screen, asked)
            _see_off(node, status, coordinator.all_committed_s)
            screen.end(status)
            return status.exit_code
        finally:
            stop.set()
            duty.join(LINGER_S)
            coordinator.let_go()


def _watch(
    job: Job, node: NodeProcess, coordinator: Coordinator, screen: Screen, asked: Asked
) -> Status | None:
    """Show the job until it has ended (its last status), or someone asks to stop (None)."""
    patience = Patience(job.settings.redis_patience_s)
    sample = NodeSample(job.presence)
    while not asked.times:
        try:
            status = job.status(sample)
            patience.rest()
            if coordinator.redis_trouble:  # it answers, so the job can be shown, but takes no writes
                status = replace(status, trouble=f"waiting for Redis: {coordinator.redis_trouble}")
            elif (
                not status.nodes and not status.trouble
            ):  # nobody works, and this node can tell why it does not
                status = replace(status, trouble=node.last_word())
            screen.show(status)
            if status.state.ended or status.state in (State.CANCELLING, State.UPLOADED):
                return status
        except RedisError as error:
            patience.bear(error, screen)
        else:
            node.check()
            if status.counts.committed >= status.counts.batches:
                coordinator.raise_trouble()
        asked.wait(max(LOOK_EVERY_S, sample.count / STATUSES_PER_S))
    return None


def _remark_on_clock(job: Job, screen: Screen) -> None:
    with contextlib.suppress(RedisError):
        trouble = clock_trouble(job.ledger)
        if trouble:
            screen.remark(trouble)


def _see_off(node: NodeProcess, status: Status, all_committed_s: float | None) -> None:
    """Let the node of a job that was cut off let go of what it has in hand; otherwise it has events to send at most."""
    if status.state in (State.CANCELLING, State.CANCELLED, State.EXPIRED):
        node.hurry()
        node.wait(CANCEL_WITHIN_S)
    else:
        idle_s = 0.0 if all_committed_s is None else time.monotonic() - all_committed_s
        node.wait(max(0.0, 2 * EVENTS_EVERY_S - idle_s))


def _stop_politely(job: Job, node: NodeProcess, screen: Screen, asked: Asked) -> int:
    """First Ctrl-C: finish what is in hand, for at most 30 s. Second: stop at once. Nothing is lost either way."""
    screen.remark(
        f"stopping: finishing what is in hand, at most {STOP_WITHIN_S:.0f} s; once more to stop at once"
    )
    node.ask_to_stop()
    give_up_at_s = time.monotonic() + STOP_WITHIN_S
    hurry_at_s = give_up_at_s - HURRY_BEFORE_S
    hurried = False
    while not node.wait(0.1):
        now_s = time.monotonic()
        if asked.times > 1:
            hurry_at_s, give_up_at_s = min(hurry_at_s, now_s), min(give_up_at_s, now_s + LINGER_S)
        if now_s >= give_up_at_s:
            break
        if now_s >= hurry_at_s and not hurried:
            node.hurry()
            hurried = True
    screen.remark(f"stopped; nothing is lost. To go on: ingest join -j {job.job_id}")
    return 130
