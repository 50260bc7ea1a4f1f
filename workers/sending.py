"""A batch's uploads on their way: threads pull them, and one thread takes back what became of them.

Whoever lets go of the interpreter for an instant, to read a file, say, has it taken by another thread, and waits for it
again: threads that hand each other small uploads one by one take more time for that than for the uploads. So what is
made quickly is gathered, and handed over together; and threads say that something is over when there is no more to do,
or when it took them long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter

from ingest.workers.pace import Pace
from ingest.workers.upload import Outcome, Task

GATHER_S = 0.01
"""How long uploads are gathered, where they are made more quickly."""
LONG_S = 0.002
"""An upload that took so long is told of at once."""


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
        self._waiting: deque[Sent] = deque()
        self._over: deque[Sent] = deque()
        self._news: SimpleQueue[bool] = SimpleQueue()  # True of a thread that has found no more to do
        self._on_their_way = self._held_bytes = self._pulling = 0
        self._let_go_s = perf_counter()
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
        sent = Sent(task, task.held_bytes)
        self._held_bytes += sent.held_bytes
        self._on_their_way += 1
        self._waiting.append(sent)
        if perf_counter() - self._let_go_s > GATHER_S:
            self._let_go()
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
        """Wait until the threads are free, or the next batch would be given others. All uploads are over."""
        while self._pulling:
            self._hear(self._news.get())
        self._pace.end()

    def _let_go(self) -> None:
        """Let as many threads as it takes have what waits."""
        while not self._news.empty():
            self._hear(self._news.get())
        for _ in range(min(self._pace.threads - self._pulling, len(self._waiting))):
            self._executor.submit(self._pull)
            self._pulling += 1
        self._let_go_s = perf_counter()

    def _take_back(self) -> None:
        """Take back what is over; wait until something is."""
        self._let_go()
        if not self._over:
            self._hear(self._news.get())
        while self._over:
            sent = self._over.popleft()
            sent.is_over = True
            self._held_bytes -= sent.held_bytes
            self._on_their_way -= 1
            if sent.outcome is not None and sent.outcome.status == "stored":
                self._pace.stored(sent.outcome.size_bytes, sent.took_s)

    def _hear(self, is_free: bool) -> None:
        self._pulling -= is_free

    def _pull(self) -> None:
        """Store what waits, until there is no more. Runs in each of the threads."""
        while True:
            try:
                sent = self._waiting.popleft()
            except IndexError:
                break
            task, sent.task = sent.task, None  # so that its bytes are let go of when it is over
            began_s = perf_counter()
            try:
                if task is not None and not self._is_given_up:
                    sent.outcome = self._store(task)
            except BaseException as error:  # noqa: BLE001 - a panic of obstore's too: whoever asks must not wait for ever
                sent.error = error
            del task
            sent.took_s = perf_counter() - began_s
            self._over.append(sent)
            if sent.took_s > LONG_S:
                self._news.put(False)
        self._news.put(True)
