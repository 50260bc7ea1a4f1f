"""A node's guard over its processes: ends one whose item takes too long, or that takes too much memory.

It is a thread of the node's own, not of the process: one that hangs in a library, or is about to take all of a
machine's memory, may let no thread of its own run.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from ingest.errors import RedisError
from ingest.ledger import Ledger
from ingest.workers.batch import KILLS_ALLOWED
from ingest.workers.hands import Hands, Held
from ingest.workers.memory import memory

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2
DUMP_WITHIN_S = 0.3
SCARCE = 16
"""The machine is short of memory when one part in so many is left."""
SPARE_AFTER_KILL_S = 2.0
BYTES_IN_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a process may take.

    Attributes:
        item_timeout_s: seconds that an item's processors may take for it, or None.
        memory_bytes: memory that a process may take; None lets it have what there is.
        processes: how many the node has.
    """

    item_timeout_s: float | None
    memory_bytes: int | None
    processes: int


def be_guarded() -> None:
    """To be called in a process of a node: says where it hangs when it is asked, and is the first that the kernel
    ends where memory runs out, before Redis or the node."""
    with contextlib.suppress(ValueError, OSError, AttributeError):  # standard error may be no file
        faulthandler.register(signal.SIGUSR2, all_threads=True)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


class Guard(threading.Thread):
    """Looks at a node's processes several times a second.

    Args:
        ledger: the job's.
        node: the node's name.
        processes: gives the numbers of its processes.
        hands: what these have in hand.
        bounds: what they may take.
    """

    def __init__(
        self, ledger: Ledger, node: str, processes: Callable[[], list[int]], hands: Hands, bounds: Bounds
    ) -> None:
        super().__init__(name="guard", daemon=True)
        self._ledger = ledger
        self._node = node
        self._processes = processes
        self._hands = hands
        self._bounds = bounds
        self._seen: dict[int, tuple[Held, int]] = {}
        self._spared_until_s = 0.0
        self._ended = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                self.look()
            except Exception:
                log.exception("the node's processes could not be looked at")

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join(5)

    def look(self) -> None:
        """Look at every process once, and end what is over its bounds."""
        processes = self._processes()
        if self._bounds.item_timeout_s is not None:
            self._end_hanging(processes, self._bounds.item_timeout_s)
        self._end_greedy({process: held for process in processes if (held := _memory_of(process))})

    def _end_hanging(self, processes: list[int], limit_s: float) -> None:
        """Time is counted in looks, not by a clock: none passes for a node that was stopped and continued."""
        seen: dict[int, tuple[Held, int]] = {}
        for process in processes:
            held = self._hands.read(process)
            if held is None:
                continue
            before, looks = self._seen.get(process, (None, 0))
            looks = looks + 1 if before == held else 0
            taken_s = held.spent_s + looks * LOOK_EVERY_S
            if taken_s <= limit_s or not self._end_for_item(process, held, taken_s, limit_s):
                seen[process] = (held, looks)
        self._seen = seen

    def _end_for_item(self, process: int, held: Held, taken_s: float, limit_s: float) -> bool:
        why = (
            f"its processors had it in hand for {taken_s:.0f} s, and queue.item_timeout_s is {limit_s:g} s; "
            "its process was ended"
        )
        try:
            if self._ledger.suspects.blame(held.batch, held.index, KILLS_ALLOWED, why):
                log.error("item %d of batch %d hangs: %s", held.index, held.batch, why)
                _end(process)
        except RedisError as error:
            log.warning("an item hangs, and waits for Redis to be told: %s", error.what)
            return False
        return True

    def _end_greedy(self, taken: dict[int, int]) -> None:
        """End what is over its bound; where there is none and memory is scarce, the largest, if over its share."""
        bound = self._bounds.memory_bytes
        if bound is not None:
            for process, taken_bytes in taken.items():
                if taken_bytes > bound:
                    self._end_for_memory(
                        process, taken_bytes, f"INGEST_PROCESS_MEMORY_BYTES is {_gib(bound)}"
                    )
            return
        now_s = time.monotonic()
        total_bytes, left_bytes = memory()
        if not taken or left_bytes > total_bytes // SCARCE or now_s < self._spared_until_s:
            return
        process = max(taken, key=taken.__getitem__)
        if taken[process] > total_bytes // (self._bounds.processes + 1):
            self._spared_until_s = now_s + SPARE_AFTER_KILL_S
            self._end_for_memory(
                process, taken[process], f"{_gib(left_bytes)} of {_gib(total_bytes)} were left"
            )

    def _end_for_memory(self, process: int, taken_bytes: int, bound: str) -> None:
        why = f"its process took {_gib(taken_bytes)} of memory, and {bound}; it was ended {KILLS_ALLOWED + 1} times"
        log.error("process %d takes %s of memory, and %s: it is ended", process, _gib(taken_bytes), bound)
        try:
            self._ledger.suspects.note_end(self._node, process, why)
        except RedisError as error:
            log.warning("why it is ended could not be noted: %s", error.what)
        _kill(process)


def _end(process: int) -> None:
    """End a process, with a word in the log of where it was."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGUSR2)
        time.sleep(DUMP_WITHIN_S)
    _kill(process)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _memory_of(process: int) -> int | None:
    """The memory that a process takes, in bytes, or None where it has ended.

    Files that it has mapped are not its own memory, where the system tells (Linux does): the system takes that
    back as others need room.
    """
    try:
        memory = psutil.Process(process).memory_info()
    except psutil.Error:
        return None
    return int(memory.rss - getattr(memory, "shared", 0))


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / BYTES_IN_GIB:.1f} GiB"
