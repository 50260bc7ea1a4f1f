"""The heart: from a batch of items, two processors and a store to a result. It knows nothing of Celery or Redis.

One thread asks the processors, item after item, so that a processor may keep what it decoded last; many
threads store what they yield. A failed item fails alone. A store that is down stops everything and fails
nothing; that is :class:`ingest.workers.patience.PatientStore`'s part.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from ingest.errors import (
    DiskFull,
    ItemError,
    KeyConflict,
    ProcessSpent,
    RedisError,
    SourceAway,
    SourceMissing,
    SourceUnreadable,
    Stopped,
    StoreError,
)
from ingest.items import FileItem, Item
from ingest.ledger import Kills
from ingest.naming import KeyMaker
from ingest.plugin_loader import Processors
from ingest.processors import Upload
from ingest.stores.base import ObjectInfo
from ingest.workers.descriptors import spent
from ingest.workers.existing import found_by_listing
from ingest.workers.hands import ProcessorTime
from ingest.workers.known_files import KnownFiles
from ingest.workers.pace import Pace
from ingest.workers.patience import PatientStore
from ingest.workers.result import Batch, BatchResult
from ingest.workers.sending import GATHER_S, Sending, Sent
from ingest.workers.sources import Sources
from ingest.workers.unchanged import Unchanged
from ingest.workers.upload import Outcome
from ingest.workers.uploader import Uploader
from ingest.workers.watch import Watch

__all__ = ["Batch", "BatchResult", "Kit", "do_batch"]

log = logging.getLogger(__name__)

KILLS_ALLOWED = 2  # beside the first, which no item can be blamed for: it happened while many were in hand
NOT_THE_ITEMS = (
    Stopped,
    RedisError,
    StoreError,
    SourceAway,
    DiskFull,
    ProcessSpent,
)  # these end the attempt, and fail no item


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
    pace: Pace
    bytes_in_flight: int
    list_existing: bool
    known_files: KnownFiles | None = None
    processor_time: ProcessorTime = field(default_factory=ProcessorTime)

    def close(self) -> None:
        """Let its threads end, when what they have in hand is done."""
        self.executor.shutdown()
        self.watch.end()
        if self.known_files is not None:
            self.known_files.close()


@dataclass(slots=True)
class _InHand:
    """An item whose uploads, by their keys, are on their way."""

    index: int
    item: Item
    began_s: float = field(default_factory=time.perf_counter)
    source: str = ""
    has_no_source: bool = False
    opened: AbstractContextManager[Path] | None = None
    temporary: list[Path] = field(default_factory=list)
    uploads: dict[str, Sent] = field(default_factory=dict)
    error: Exception | None = None

    def close(self) -> None:
        """Let its processor clean up after it, and delete what was made for it."""
        while self.temporary:
            self.temporary.pop().unlink(missing_ok=True)
        opened, self.opened = self.opened, None
        if opened is not None:
            opened.__exit__(None, None, None)


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
        self._again = self._alone or batch.was_begun
        self._stored: set[str] = set()  # keys of items that are tried once more
        self._result = BatchResult(batch, kit.node)
        kit.processor_time.begin_anew()
        self._on_their_way: deque[_InHand] = deque()
        self._keys: dict[int, str] = {}
        self._keys_taken: dict[str, int] = {}
        self._existing = self._list_existing()
        self._unchanged = Unchanged(kit.uploader, kit.known_files)
        self._sources = Sources(kit.processors, kit.watch, kit.processor_time)
        self._sending = Sending(
            kit.uploader.store, kit.executor, kit.pace, kit.bytes_in_flight, kit.watch.check
        )

    def _list_existing(self) -> Mapping[str, ObjectInfo]:
        """What a listing finds under the batch's keys, where the job has to know."""
        if not self._kit.list_existing and not self._alone:
            return {}
        for index, item in enumerate(self._batch.items):
            try:
                self._keys[index] = self._key(item)
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises; the item fails when its turn comes
                log.debug("no key yet for %s: %s", item.name, error)
        return found_by_listing(self._kit.store, [*self._keys.values()])

    def _key(self, item: Item, fields: Mapping[str, str | int] | None = None) -> str:
        key = self._kit.keys.key(item, fields)
        self._kit.store.check_key(key)
        return key

    def run(self) -> BatchResult:
        pace = self._kit.pace
        try:
            for index, item in enumerate(self._batch.items):
                self._kit.watch.wait_while_paused()
                self._on_their_way.append(self._begin(index, item))
                if self._alone:
                    self._finish_until(0)
                elif len(self._on_their_way) >= 2 * pace.threads and self._has_waited(GATHER_S):
                    self._finish_until(pace.threads)
            self._finish_until(0)
        except BaseException:
            self._give_up()
            raise
        finally:
            self._sending.end()
            self._unchanged.save()
            self._kit.watch.take("")
        return self._result

    def _has_waited(self, seconds: float) -> bool:
        """Whether the first item on its way began so long ago."""
        return time.perf_counter() - self._on_their_way[0].began_s > seconds

    def _finish_until(self, left: int) -> None:
        """Finish items, the first begun first, until only some are left on their way."""
        while len(self._on_their_way) > left:
            self._finish(self._on_their_way.popleft())

    def _give_up(self) -> None:
        """Nothing of the batch counts: what has not begun never will, what has is waited for."""
        self._sending.give_up()
        for hand in self._on_their_way:
            try:
                hand.close()
            except Exception:
                log.exception("after item %s its processor could not clean up", hand.item.name)

    def _blame(self, hand: _InHand, error: BaseException) -> None:
        """An error is its item's failure, with its reason, unless it is no item's fault."""
        error = DiskFull.of(error) or spent() or error
        if isinstance(error, NOT_THE_ITEMS) or not isinstance(error, Exception):
            self._on_their_way.append(hand)
            raise error
        hand.error = hand.error or error

    def _begin(self, index: int, item: Item) -> _InHand:
        """Ask the processors for the item's uploads, and send each on its way."""
        hand = _InHand(index, item)
        self._kit.watch.take(item.name)
        kills = self._batch.kills.get(index)
        if kills and kills.times >= KILLS_ALLOWED:
            hand.error = _killer(kills)
            return hand
        if self._alone:
            self._hold(index)
        try:
            self._open_and_send(hand)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises
            self._blame(hand, error)
        return hand

    def _begin_without_source(self, index: int, item: Item, source: str, error: SourceMissing) -> _InHand:
        """An item that has no source: what its processor makes of that."""
        hand = _InHand(index, item, source=source, has_no_source=True)
        try:
            with self._processors_have(hand):
                uploads = self._kit.processors.tile.without_source(item, error)
            self._send(hand, uploads, None)
        except Exception as fault:  # noqa: BLE001 - whatever a plugin raises
            self._blame(hand, fault)
        return hand

    def _open_and_send(self, hand: _InHand) -> None:
        item, processors = hand.item, self._kit.processors
        if isinstance(item, FileItem) and item.flaw:
            raise KeyConflict(item.flaw)
        with self._processors_have(hand):
            hand.source = processors.path.path(item)
            opened = processors.path.open(hand.source)
            path = opened.__enter__()
            hand.opened = opened
            source = self._sources.source(item, hand.source, path)
            uploads = processors.tile.uploads(source)
        self._send(hand, uploads, path, source.facts)

    def _processors_have(self, hand: _InHand) -> AbstractContextManager[None]:
        """Within it the item's processors have it: a limit on their time counts."""
        return self._kit.processor_time.of(self._batch.number, hand.index)

    def _send(
        self,
        hand: _InHand,
        uploads: Iterable[Upload],
        path: Path | None,
        facts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Hand each upload to a thread. ``path`` is the file behind the item, ``facts`` are known of it."""
        item = hand.item
        for made in self._kit.processor_time.of_each(uploads, self._batch.number, hand.index):
            _check_kinds(made, facts)
            upload = replace(made, metadata={**facts, **made.metadata}) if facts else made
            if upload.temporary and isinstance(upload.body, Path):
                hand.temporary.append(upload.body)
            known = None if upload.fields else self._keys.get(hand.index)
            key = known or self._key(item, upload.fields)
            if key in self._keys_taken:
                whose = "another upload of it" if self._keys_taken[key] == hand.index else "another item"
                raise KeyConflict(
                    f"{whose} has the key {key!r} too", hint="make destination.key tell them apart"
                )
            is_its_file = upload.body is path or upload.body == path
            task = self._kit.uploader.task(
                item,
                key,
                upload,
                listed=self._existing.get(key),
                again=self._again or key in self._stored,
                listed_bytes=item.size_bytes if is_its_file and isinstance(item, FileItem) else None,
                state=self._unchanged.state(hand.source, path) if path and is_its_file else None,
            )
            hand.uploads[key] = self._unchanged.settled(task) or self._sending.send(task)
            self._keys_taken[key] = hand.index

    def _finish(self, hand: _InHand) -> None:
        """Wait for the item's uploads, and note what became of it.

        Where its source failed it is tried once more, and as often as the whole source was away meanwhile: a drive
        that drops out may fail an item and be back before anybody looks.
        """
        was_tried_again = False
        while True:
            outcomes = self._outcomes(hand)
            error = hand.error
            if isinstance(error, SourceMissing | SourceUnreadable) and (
                self._sources.waited() or not was_tried_again
            ):
                was_tried_again = True
                self._stored.update(outcome.key for outcome in outcomes if outcome.status == "stored")
                for key in hand.uploads:
                    del self._keys_taken[key]
                hand = self._begin(hand.index, hand.item)
            elif isinstance(error, SourceMissing) and not hand.uploads and not hand.has_no_source:
                hand = self._begin_without_source(hand.index, hand.item, hand.source, error)
            else:
                break
        if error is None:
            self._result.succeed(hand.item, hand.source, outcomes)
            self._unchanged.note(outcomes)
        else:
            self._result.fail(hand.index, hand.source, error)
        self._kit.watch.count(1, 0)

    def _outcomes(self, hand: _InHand) -> list[Outcome]:
        """What became of the item's uploads, when all have come to an end."""
        outcomes: list[Outcome] = []
        for sent in hand.uploads.values():
            self._sending.wait_for(sent)
            if sent.error is not None:
                self._blame(hand, sent.error)
            elif sent.outcome is not None:
                outcomes.append(sent.outcome)
        try:
            hand.close()
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises
            self._blame(hand, error)
        return outcomes


def _check_kinds(upload: Upload, facts: Mapping[str, str]) -> None:
    """Refuse what would fail later, where it would no longer be this item's fault alone."""
    if not isinstance(upload, Upload):
        raise TypeError(f"a tile processor yields Upload; this one yielded {type(upload).__name__}")
    if not isinstance(upload.body, bytes | Path):
        raise TypeError(f"an upload's body is bytes or a Path; this one is {type(upload.body).__name__}")
    if not isinstance(upload.content_type, str | None):
        raise TypeError(f"an upload's content_type is text or None; this one is {upload.content_type!r}")
    for name, value in [*(facts or {}).items(), *upload.metadata.items()]:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"an upload's metadata is text; this one has {name!r}: {value!r}")


def _killer(kills: Kills) -> ItemError:
    return ItemError(
        kills.why or f"the process that worked on it died {kills.times + 1} times",
        hint="it may need more memory than there is, crash a library or make a plugin exit; look at it by itself",
    )
