"""The heart: from a batch of items, two processors and a store to a result. It knows nothing of Celery or Redis.

One thread asks the processors, item after item, so that a processor may keep what it decoded last; many
threads store what they yield. A failed item fails alone. A store that is down stops everything and fails
nothing; that is :class:`ingest.workers.patience.PatientStore`'s part.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass, field

from ingest.errors import (
    ConfigError,
    IngestError,
    ItemError,
    KeyConflict,
    RedisError,
    SourceMissing,
    Stopped,
    StoreError,
)
from ingest.items import FileItem, Item, Tile
from ingest.ledger import FailedItem, Tally
from ingest.manifest import Row
from ingest.naming import KeyMaker
from ingest.plugin_loader import Processors
from ingest.processors import Source, Upload
from ingest.stores.base import ObjectInfo
from ingest.workers.existing import listed_sizes
from ingest.workers.patience import PatientStore
from ingest.workers.uploader import Outcome, Uploader
from ingest.workers.watch import Watch

log = logging.getLogger(__name__)

KILLS_ALLOWED = 2  # beside the first, which no item can be blamed for: it happened while many were in hand
SOURCE_WAIT_S = 5.0
NOT_THE_ITEMS = (Stopped, RedisError, StoreError)  # these end the attempt, and fail no item


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as a node takes it.

    Attributes:
        number: its number within the job.
        items: what is in it.
        attempt: 1 for the first try.
        kills: index of an item → how often it was in hand, by itself, when its process died.
        began_s: Redis's time when the attempt began, in seconds since 1970 UTC.
    """

    number: int
    items: Sequence[Item]
    attempt: int = 1
    kills: Mapping[int, int] = field(default_factory=dict)
    began_s: int = 0


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
class BatchResult:
    """What became of a batch's items, as the ledger and the manifest want it."""

    rows: list[Row] = field(default_factory=list)
    failures: dict[int, FailedItem] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)

    def count(self, **amounts: int) -> None:
        """Add to the counters."""
        for name, amount in amounts.items():
            self.counters[name] = self.counters.get(name, 0) + amount

    @property
    def tally(self) -> Tally:
        """For the ledger."""
        return Tally(self.counters, self.failures)


@dataclass(slots=True)
class _InHand:
    """An item whose uploads are on their way."""

    index: int
    item: Item
    source: str = ""
    opened: ExitStack = field(default_factory=ExitStack)
    uploads: list[tuple[Upload, Future[Outcome]]] = field(default_factory=list)
    error: Exception | None = None


def do_batch(batch: Batch, kit: Kit, hold: Callable[[int], None] = lambda index: None) -> BatchResult:
    """Store a batch's items. May be repeated.

    From the second attempt on, items are done one at a time, with ``hold(index)`` called before each, so
    that one that kills its process is found; one that did so too often is failed without being tried.

    Raises:
        Stopped: the work was asked to stop; nothing of the batch counts yet.
        RedisError: Redis has been away for longer than this node is patient.
    """
    result = BatchResult()
    existing = _existing(batch, kit)
    alone = batch.attempt > 1
    on_their_way: deque[_InHand] = deque()
    claimed: set[str] = set()
    try:
        for index, item in enumerate(batch.items):
            kit.watch.wait_while_paused()
            if batch.kills.get(index, 0) >= KILLS_ALLOWED:
                _fail(result, batch, kit, _InHand(index, item), _killer(batch.kills[index] + 1))
                continue
            if alone:
                hold(index)
            on_their_way.append(_begin(kit, _InHand(index, item), existing, claimed))
            while on_their_way and (alone or len(on_their_way) > 2 * kit.threads):
                _finish(result, batch, kit, on_their_way.popleft())
        while on_their_way:
            _finish(result, batch, kit, on_their_way.popleft())
    finally:
        for left in on_their_way:
            _abandon(left)
    kit.watch.take("")
    return result


def _existing(batch: Batch, kit: Kit) -> Mapping[str, ObjectInfo]:
    """What a listing finds under the batch's keys, where the job has to know."""
    if not kit.list_existing and batch.attempt == 1:
        return {}
    keys = []
    for item in batch.items:
        try:
            keys.append(kit.keys.key(item))
        except ItemError:
            continue  # it fails with this reason when its turn comes
    return listed_sizes(kit.store, keys)


def _begin(kit: Kit, hand: _InHand, existing: Mapping[str, ObjectInfo], claimed: set[str]) -> _InHand:
    """Ask the processors for the item's uploads, and send each on its way."""
    kit.watch.take(hand.item.name)
    try:
        _open_and_send(kit, hand, existing, claimed)
    except NOT_THE_ITEMS:
        _abandon(hand)
        raise
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises is its item's failure, with its reason
        hand.error = error
    return hand


def _open_and_send(kit: Kit, hand: _InHand, existing: Mapping[str, ObjectInfo], claimed: set[str]) -> None:
    item, processors = hand.item, kit.processors
    if isinstance(item, FileItem) and item.flaw:
        raise KeyConflict(item.flaw, hint="make destination.key tell them apart, for example with {path}")
    hand.source = processors.path.path(item)
    path = hand.opened.enter_context(processors.path.open(hand.source))
    origin = processors.path.origin(item) if isinstance(item, Tile) else (0, 0)
    for upload in processors.tile.uploads(Source(item, path, origin)):
        key = kit.keys.key(item, upload.fields)
        if key in claimed:
            raise KeyConflict(
                f"two uploads have the key {key!r}", hint="make destination.key tell them apart"
            )
        claimed.add(key)
        future = kit.executor.submit(kit.uploader.store, item, key, upload, existing)
        hand.uploads.append((upload, future))


def _finish(result: BatchResult, batch: Batch, kit: Kit, hand: _InHand) -> None:
    """Wait for the item's uploads, and note what became of it."""
    outcomes: list[tuple[Upload, Outcome]] = []
    for upload, future in hand.uploads:
        try:
            outcomes.append((upload, future.result()))
        except NOT_THE_ITEMS:
            _abandon(hand)
            raise
        except Exception as error:  # noqa: BLE001 - see _begin
            hand.error = hand.error or error
    hand.opened.close()
    if hand.error is None:
        _succeed(result, batch, kit, hand, outcomes)
    elif isinstance(hand.error, SourceMissing) and not _source_is_there(kit, hand.error):
        _finish(result, batch, kit, _begin(kit, _InHand(hand.index, hand.item), {}, set()))
    else:
        _fail(result, batch, kit, hand, hand.error)


def _source_is_there(kit: Kit, error: SourceMissing) -> bool:
    """Whether only this item is missing. Where the whole source is away (unmounted, say), wait for it, then False."""
    waited = False
    while True:
        try:
            kit.processors.path.check()
        except ConfigError as trouble:
            log.warning("waiting for the source: %s", trouble.what)
            waited = True
            kit.watch.take(f"waiting for the source: {trouble.what}")
            kit.watch.sleep(SOURCE_WAIT_S)
        else:
            return not waited


def _succeed(
    result: BatchResult, batch: Batch, kit: Kit, hand: _InHand, outcomes: Sequence[tuple[Upload, Outcome]]
) -> None:
    item = hand.item
    size_bytes = item.size_bytes if isinstance(item, FileItem) else None
    stored = [outcome for _, outcome in outcomes if outcome.status == "stored"]
    source_bytes = (
        size_bytes if size_bytes is not None else sum(outcome.size_bytes for _, outcome in outcomes)
    )
    result.count(
        done=int(bool(stored)),
        skipped=int(not stored),
        blank=int(any("blank" in upload.metadata for upload, _ in outcomes)),
        bytes_done=source_bytes,
        objects=len(stored),
        bytes_stored=sum(outcome.size_bytes for outcome in stored),
    )
    kit.watch.count(1, 0)
    for upload, outcome in outcomes:
        result.rows.append(
            Row(
                item=item.name,
                source=hand.source,
                size_bytes=size_bytes,
                mtime=item.mtime_ns if isinstance(item, FileItem) else None,
                key=outcome.key,
                stored_bytes=outcome.size_bytes,
                sha256=outcome.sha256,
                etag=outcome.etag,
                content_type=outcome.content_type,
                status=outcome.status,
                node=kit.node,
                attempt=batch.attempt,
                time=batch.began_s or int(time.time()),
                metadata=upload.metadata,
            )
        )


def _fail(result: BatchResult, batch: Batch, kit: Kit, hand: _InHand, error: Exception) -> None:
    if not isinstance(error, IngestError):
        log.error("item %s failed through a fault in a plugin or in Ingest", hand.item.name, exc_info=error)
    item = hand.item
    reason = str(error) if isinstance(error, IngestError) else f"a fault in a plugin or in Ingest: {error!r}"
    failure = FailedItem(item, type(error).__name__, reason, hand.source, kit.node, batch.began_s)
    result.failures[hand.index] = failure
    size_bytes = (item.size_bytes or 0) if isinstance(item, FileItem) else 0
    result.count(failed=1, bytes_failed=size_bytes)
    kit.watch.count(1, 0)


def _killer(times: int) -> ItemError:
    return ItemError(
        f"the process that worked on it died {times} times",
        hint="it may need more memory than there is, or crash a library; look at it by itself",
    )


def _abandon(hand: _InHand) -> None:
    """Let go of an item that is given up: what has not begun never will, what has is waited for."""
    for _, future in hand.uploads:
        future.cancel()
    for _, future in hand.uploads:
        if not future.cancelled():
            future.exception()
    hand.opened.close()
