"""What a process of a node keeps an eye on while it works: the job's state, the pause, its own orders to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ingest.errors import RedisError, Stopped
from ingest.ledger import State
from ingest.presence import Orders, Presence, ProcessReport

log = logging.getLogger(__name__)

POLL_S = 1.0
PATIENT_WHEN_STOPPING_S = 4.0
"""For so long a process that is to stop waits for what may be back at once: docker kills after 10 s."""
WORKING_STATES = (State.PREPARING, State.UPLOADING)


class Watch:
    """Tells Redis once a second what this process does, and reads whether to go on.

    :meth:`start` begins that. :meth:`check` and :meth:`wait_while_paused` may be called from any thread, and
    cost nothing between polls.
    """

    def __init__(self, exchange: Callable[[ProcessReport], Orders] | None = None) -> None:
        self._exchange = exchange
        self._orders = Orders()
        self._stopping_since_s: float | None = None
        self._changed = threading.Condition()
        self._counting = threading.Lock()
        self._in_hand = ""
        self._items = 0
        self._size_bytes = 0
        self._ended = threading.Event()
        self._sign_of_life: Callable[[], object] | None = None

    @classmethod
    def of(cls, presence: Presence, node: str, process: int) -> Watch:
        """The watch of a process of a node."""
        return cls(lambda report: presence.report(node, process, report))

    def start(self) -> None:
        """Begin to exchange reports and orders, until :meth:`end` or as long as the process lives."""
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.poll()
            except Exception:
                log.exception("no orders, for a fault of ours")
            self._ended.wait(POLL_S)

    def end(self) -> None:
        """Exchange no more."""
        self._ended.set()

    def poll(self) -> None:
        """Exchange reports and orders once. A Redis that is away for a while changes no orders."""
        if self._exchange is None:
            return
        sign_of_life = self._sign_of_life
        try:
            self.follow(self._exchange(ProcessReport(self._in_hand, self._items, self._size_bytes)))
            if sign_of_life is not None:
                sign_of_life()
        except RedisError as error:
            log.debug("no orders: %s", error.what)

    def follow(self, orders: Orders) -> None:
        """Take new orders."""
        with self._changed:
            self._orders = orders
            if orders.stopping and self._stopping_since_s is None:
                self._stopping_since_s = time.monotonic()
            self._changed.notify_all()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            Stopped: the job is cancelled, ended or expired, or this node is to stop at once.
        """
        orders = self._orders
        if orders.stopping == "now":
            raise Stopped("this node was asked to stop")
        if orders.state not in WORKING_STATES:
            raise Stopped(f"the job is {orders.state}")

    def check_waiting(self) -> None:
        """Go on waiting for what is away, or not: to finish what is in hand may then take a node that stops too long.

        Raises:
            Stopped: as :meth:`check`; and a few seconds after this node was asked to stop.
        """
        self.check()
        since_s = self._stopping_since_s
        if since_s is not None and time.monotonic() - since_s > PATIENT_WHEN_STOPPING_S:
            raise Stopped("this node was asked to stop, and what it waits for is not back")

    def wait_while_paused(self) -> None:
        """Return when the work may go on.

        Raises:
            Stopped: as :meth:`check`, and while it waits as :meth:`check_waiting`.
        """
        self.check()
        while self._orders.pause:
            self.sleep(POLL_S)

    def sleep(self, seconds: float) -> None:
        """Sleep while something is away, but wake up for new orders to stop.

        Raises:
            Stopped: as :meth:`check_waiting`.
        """
        wake_s = time.monotonic() + seconds
        with self._changed:
            while (left_s := wake_s - time.monotonic()) > 0:
                self.check_waiting()
                self._changed.wait(min(left_s, POLL_S))
        self.check_waiting()

    def take(self, name: str) -> None:
        """Say which item is in hand; "" for none."""
        self._in_hand = name

    def also(self, sign_of_life: Callable[[], object] | None) -> None:
        """What else to tell Redis at each exchange from now on; None for nothing."""
        self._sign_of_life = sign_of_life

    def count(self, items: int, size_bytes: int) -> None:
        """Add to what this process has done since it started."""
        with self._counting:
            self._items += items
            self._size_bytes += size_bytes
