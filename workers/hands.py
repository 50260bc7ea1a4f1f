"""Which item the processors of each of a node's processes have now, and for how long, as the node itself sees it.

The facts lie in memory that a node shares with its processes: a process that hangs in a library that lets no
other thread run can tell nobody anything any more.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar, cast

T = TypeVar("T")

SLOTS = 4096  # a power of two above the 1024 processes that a node may have
_SLOT = struct.Struct(
    "=qqqdd"
)  # process, batch, index, seconds spent in calls before, begin of this call or 0
_END = object()


@dataclass(frozen=True, slots=True)
class Held:
    """A call of an item's processors that is under way.

    Attributes:
        batch, index: the item.
        spent_s: seconds that earlier calls for it took.
        since_s: begin of this one, on the machine's steady clock.
    """

    batch: int
    index: int
    spent_s: float
    since_s: float


class Hands:
    """The shared memory: a slot for each process, by its number. To be made before the processes are forked."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SLOTS * _SLOT.size)

    def write(self, held: Held | None) -> None:
        """Say what this process does."""
        process = os.getpid()
        facts = (held.batch, held.index, held.spent_s, held.since_s) if held else (0, 0, 0.0, 0.0)
        _SLOT.pack_into(self._memory, self._place(process), process, *facts)

    def read(self, process: int) -> Held | None:
        """What a process does. While it writes that, nonsense may be read, which does not last."""
        whose, batch, index, spent_s, since_s = _SLOT.unpack_from(self._memory, self._place(process))
        return Held(batch, index, spent_s, since_s) if whose == process and since_s else None

    @staticmethod
    def _place(process: int) -> int:
        return process % SLOTS * _SLOT.size


class ProcessorTime:
    """A process's side: notes when an item's processors are at work. Without ``hands`` it notes nothing."""

    def __init__(self, hands: Hands | None = None) -> None:
        self._hands = hands
        self._item = (-1, -1)
        self._spent_s = 0.0
        self._since_s = 0.0
        self._thread = 0  # whose call is under way

    def begin_anew(self) -> None:
        """Forget what calls have spent so far: the batch is begun, or its source is back."""
        self._spent_s = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it a call of the calling thread waits for what is no doing of its item, and that does not count."""
        hands = self._hands
        if hands is None or not self._since_s or self._thread != threading.get_ident():
            yield
            return
        self._stop(hands)
        try:
            yield
        finally:
            self._go(hands)

    def of(self, batch: int, index: int) -> AbstractContextManager[None]:
        """Within it they are."""
        return nullcontext() if self._hands is None else self._noted(self._hands, batch, index)

    def of_each(self, made: Iterable[T], batch: int, index: int) -> Iterable[T]:
        """What they make, each piece while they are at work; what is done with a piece is not."""
        return made if self._hands is None else self._noted_each(self._hands, made, batch, index)

    def _noted_each(self, hands: Hands, made: Iterable[T], batch: int, index: int) -> Iterator[T]:
        pieces, end = iter(made), cast("T", _END)
        while True:
            with self._noted(hands, batch, index):
                piece = next(pieces, end)
            if piece is end:
                return
            yield piece

    @contextmanager
    def _noted(self, hands: Hands, batch: int, index: int) -> Iterator[None]:
        if self._item != (batch, index):
            self._item, self._spent_s = (batch, index), 0.0
        self._thread = threading.get_ident()
        self._go(hands)
        try:
            yield
        finally:
            self._stop(hands)

    def _go(self, hands: Hands) -> None:
        self._since_s = time.monotonic()
        hands.write(Held(*self._item, self._spent_s, self._since_s))

    def _stop(self, hands: Hands) -> None:
        hands.write(None)
        self._spent_s += time.monotonic() - self._since_s
        self._since_s = 0.0
