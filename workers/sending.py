"""A batch's uploads on their way: threads pull them, and one thread takes back what became of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter

from ingest.workers.pace import Pace
from ingest.workers.uploader import Outcome, Task


@dataclass(slots=True, eq=False)
class Sent:
    """An upload that was handed to the threads, and what became of it: an outcome, or an error."""

    task: Task | None
    held_bytes: int
    took_s: float = 0.0
    is_over: bool = False
    outcome: Outcome | None = None
    error: BaseException | None = None


class Sending:
    """Hands uploads to threads, and holds no more than some bytes of them in memory.

    One thread alone calls its methods, and so needs no lock: it counts what it handed out and what came back.

    Args:
        store: stores an upload; called in the threads.
        executor: has the threads.
        pace: says how many of them pull.
        bytes_in_flight: bytes held at once, at most; an upload larger than that passes alone.
        check: called before each upload; raises to interrupt.
    """

    def __init__(
        self,
        store: Callable[[Task], Outcome],
        executor: Executor,
        pace: Pace,
        bytes_in_flight: int,
        check: Callable[[], None],
    ) -> None:
        self._store = store
        self._executor = executor
        self._pace = pace
        self._bytes_in_flight = bytes_in_flight
        self._check = check
        self._waiting: SimpleQueue[Sent | None] = SimpleQueue()
        self._over: SimpleQueue[Sent] = SimpleQueue()
        self._pulling: list[Future[None]] = []
        self._on_their_way = self._held_bytes = 0
        self._is_given_up = False
        pace.begin()

    def send(self, task: Task) -> Sent:
        """Let a thread store an upload, as soon as there is room for its bytes.

        The waiting is done here, and never in the threads: whatever holds room is on its way to being stored.

        Raises:
            Stopped: the work was asked to stop.
        """
        self._check()
        while self._held_bytes and self._held_bytes + task.held_bytes > self._bytes_in_flight:
            self._take_back()
        if len(self._pulling) < self._pace.threads and len(self._pulling) <= self._on_their_way:
            self._pulling.append(self._executor.submit(self._pull))
        sent = Sent(task, task.held_bytes)
        self._held_bytes += sent.held_bytes
        self._on_their_way += 1
        self._waiting.put(sent)
        return sent

    def wait_for(self, sent: Sent) -> None:
        """Return when the upload has come to an end."""
        while not sent.is_over:
            self._take_back()

    def give_up(self) -> None:
        """What has not begun never will, and what has is waited for."""
        self._is_given_up = True
        while self._on_their_way:
            self._take_back()

    def end(self) -> None:
        """Let the threads go, and wait until they are free: or the next batch would be given others."""
        self._pace.end()
        for _ in self._pulling:
            self._waiting.put(None)
        wait(self._pulling)
        self._pulling.clear()

    def _take_back(self) -> None:
        sent = self._over.get()
        sent.is_over = True
        self._held_bytes -= sent.held_bytes
        self._on_their_way -= 1
        if sent.outcome is not None and sent.outcome.status == "stored":
            self._pace.stored(sent.outcome.size_bytes, sent.took_s)

    def _pull(self) -> None:
        """Store what waits, until there is no more to come. Runs in each of the threads."""
        while (sent := self._waiting.get()) is not None:
            task, sent.task = sent.task, None  # so that its bytes are let go of when it is over
            began_s = perf_counter()
            try:
                if task is not None and not self._is_given_up:
                    sent.outcome = self._store(task)
            except BaseException as error:  # noqa: BLE001 - a panic of obstore's too: whoever asks must not wait for ever
                sent.error = error
            del task
            sent.took_s = perf_counter() - began_s
            self._over.put(sent)
