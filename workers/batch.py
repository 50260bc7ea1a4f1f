"""The heart: from a batch of items, two processors and a store to a result. It knows nothing of Celery or Redis.

One thread asks the processors, item after item, so that a processor may keep what it decoded last; many
threads store what they yield. A failed item fails alone. A store that is down stops everything and fails
nothing; that is :class:`ingest.workers.patience.PatientStore`'s part.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from ingest.errors import (
    ConfigError,
    ItemError,
    KeyConflict,
    RedisError,
    SourceMissing,
    SourceUnreadable,
    Stopped,
    StoreError,
)
from ingest.items import FileItem, Item, Tile
from ingest.naming import KeyMaker
from ingest.plugin_loader import Processors
from ingest.processors import Source, Upload
from ingest.stores.base import ObjectInfo
from ingest.workers.existing import listed_sizes
from ingest.workers.patience import PatientStore
from ingest.workers.result import Batch, BatchResult
from ingest.workers.uploader import Outcome, Uploader
from ingest.workers.watch import Watch

__all__ = ["Batch", "BatchResult", "Kit", "do_batch"]

log = logging.getLogger(__name__)

KILLS_ALLOWED = 2  # beside the first, which no item can be blamed for: it happened while many were in hand
SOURCE_WAIT_S = 5.0
NOT_THE_ITEMS = (Stopped, RedisError, StoreError)  # these end the attempt, and fail no item


@dataclass(frozen=True, slots=True)
class Kit:
    """What a process works with, made once for a job."""

    node: str
    processors: Processors
    keys: KeyMaker
    store: PatientStore
    uploader: Uploader
    executor: Executor
    watch: Watch
    threads: int
    list_existing: bool


@dataclass(slots=True)
class _InHand:
    """An item whose uploads are on their way. ``again``: its source has failed once before."""

    index: int
    item: Item
    source: str = ""
    again: bool = False
    opened: ExitStack = field(default_factory=ExitStack)
    uploads: list[tuple[Upload, Future[Outcome]]] = field(default_factory=list)
    error: Exception | None = None

    def abandon(self) -> None:
        """Give it up: what has not begun never will, what has is waited for."""
        for _, future in self.uploads:
            future.cancel()
        for _, future in self.uploads:
            if not future.cancelled():
                future.exception()
        self.opened.close()


def do_batch(batch: Batch, kit: Kit, hold: Callable[[int], None] = lambda index: None) -> BatchResult:
    """Store a batch's items. May be repeated.

    From the second attempt on, items are done one at a time, with ``hold(index)`` called before each, so
    that one that kills its process is found; one that did so too often is failed without being tried.

    Raises:
        Stopped: the work was asked to stop; nothing of the batch counts yet.
        RedisError: Redis has been away for longer than this node is patient.
    """
    return _Run(batch, kit, hold).run()


class _Run:
    """One attempt at a batch."""

    def __init__(self, batch: Batch, kit: Kit, hold: Callable[[int], None]) -> None:
        self._batch = batch
        self._kit = kit
        self._hold = hold
        self._alone = batch.attempt > 1
        self._result = BatchResult(batch, kit.node)
        self._on_their_way: deque[_InHand] = deque()
        self._keys_taken: dict[str, int] = {}
        self._existing = self._list_existing()

    def _list_existing(self) -> Mapping[str, ObjectInfo]:
        """What a listing finds under the batch's keys, where the job has to know."""
        if not self._kit.list_existing and not self._alone:
            return {}
        keys = []
        for item in self._batch.items:
            try:
                keys.append(self._kit.keys.key(item))
            except ItemError:
                continue  # it fails with this reason when its turn comes
        return listed_sizes(self._kit.store, keys)

    def run(self) -> BatchResult:
        at_once = 1 if self._alone else 2 * self._kit.threads
        try:
            for index, item in enumerate(self._batch.items):
                self._kit.watch.wait_while_paused()
                self._on_their_way.append(self._begin(_InHand(index, item)))
                while len(self._on_their_way) >= at_once:
                    self._finish(self._on_their_way.popleft())
            while self._on_their_way:
                self._finish(self._on_their_way.popleft())
        finally:
            for left in self._on_their_way:
                left.abandon()
            self._kit.watch.take("")
        return self._result

    def _begin(self, hand: _InHand) -> _InHand:
        """Ask the processors for the item's uploads, and send each on its way."""
        self._kit.watch.take(hand.item.name)
        kills = self._batch.kills.get(hand.index, 0)
        if kills >= KILLS_ALLOWED:
            hand.error = _killer(kills + 1)
            return hand
        if self._alone:
            self._hold(hand.index)
        return self._attempt(hand, lambda: self._open_and_send(hand))

    def _attempt(self, hand: _InHand, step: Callable[[], None]) -> _InHand:
        """Take a step with an item; what goes wrong is the item's failure, with its reason."""
        try:
            step()
        except NOT_THE_ITEMS:
            hand.abandon()
            raise
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises
            hand.error = hand.error or error
        return hand

    def _open_and_send(self, hand: _InHand) -> None:
        item, processors = hand.item, self._kit.processors
        if isinstance(item, FileItem) and item.flaw:
            raise KeyConflict(item.flaw, hint="make destination.key tell them apart, for example with {path}")
        hand.source = processors.path.path(item)
        path = hand.opened.enter_context(processors.path.open(hand.source))
        origin = processors.path.origin(item) if isinstance(item, Tile) else (0, 0)
        self._send(hand, processors.tile.uploads(Source(item, path, origin)))

    def _send(self, hand: _InHand, uploads: Iterable[Upload]) -> None:
        kit = self._kit
        for upload in uploads:
            key = kit.keys.key(hand.item, upload.fields)
            if key in self._keys_taken:
                whose = "another upload of it" if self._keys_taken[key] == hand.index else "another item"
                raise KeyConflict(
                    f"{whose} has the key {key!r} too", hint="make destination.key tell them apart"
                )
            self._keys_taken[key] = hand.index
            future = kit.executor.submit(kit.uploader.store, hand.item, key, upload, self._existing)
            hand.uploads.append((upload, future))

    def _finish(self, hand: _InHand) -> None:
        """Wait for the item's uploads, and note what became of it."""
        outcomes: list[tuple[Upload, Outcome]] = []
        for upload, future in hand.uploads:
            self._attempt(hand, partial(_collect, outcomes, upload, future))
        hand.opened.close()
        error = hand.error
        if isinstance(error, SourceMissing | SourceUnreadable) and self._may_be_better_now(hand):
            self._keys_taken = {key: i for key, i in self._keys_taken.items() if i != hand.index}
            self._finish(self._begin(_InHand(hand.index, hand.item, again=True)))
        elif isinstance(error, SourceMissing) and not hand.uploads:
            self._without_source(hand, error)
        elif error is not None:
            self._result.fail(hand.index, hand.source, error)
            self._kit.watch.count(1, 0)
        else:
            self._result.succeed(hand.item, hand.source, outcomes)
            self._kit.watch.count(1, 0)

    def _may_be_better_now(self, hand: _InHand) -> bool:
        """Whether to try an item again: its source may have failed while all were away, as one with a drive that
        dropped out, so it is tried once more when they are there."""
        return self._waited_for_sources() or not hand.again

    def _without_source(self, hand: _InHand, error: SourceMissing) -> None:
        """An item that has no source: what its processor makes of that."""
        instead = _InHand(hand.index, hand.item, hand.source, again=True)
        processor = self._kit.processors.tile
        self._attempt(instead, lambda: self._send(instead, processor.without_source(hand.item, error)))
        if not instead.uploads and isinstance(instead.error, SourceMissing):
            self._result.fail(hand.index, hand.source, error)
            self._kit.watch.count(1, 0)
        else:
            self._finish(instead)

    def _waited_for_sources(self) -> bool:
        """Wait while the whole source is away (unmounted, say). False where it is there: only the item is missing."""
        waited = False
        while True:
            try:
                self._kit.processors.path.check()
            except ConfigError as trouble:
                log.warning("waiting for the source: %s", trouble.what)
                waited = True
                self._kit.watch.take(f"waiting for the source: {trouble.what}")
                self._kit.watch.sleep(SOURCE_WAIT_S)
            else:
                return waited


def _collect(outcomes: list[tuple[Upload, Outcome]], upload: Upload, future: Future[Outcome]) -> None:
    outcomes.append((upload, future.result()))


def _killer(times: int) -> ItemError:
    return ItemError(
        f"the process that worked on it died {times} times",
        hint="it may need more memory than there is, or crash a library; look at it by itself",
    )
