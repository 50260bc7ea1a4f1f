"""The feeder: cuts a job's items into batches, records them in the ledger, and queues them.

It runs at most ``queue.max_batches`` ahead of the nodes. Its cursor is in Redis, written in one step with
the batches it covers, so it may die anywhere and be taken over by any node; where Redis has forgotten its
last second, the cursor is where Redis remembers it, and the feeder goes back to it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ingest.config import JobConfig
from ingest.errors import KeyInvalid, SourceUnreadable
from ingest.items import FileItem, Grid
from ingest.ledger import Counts, Ledger, pack_items
from ingest.naming import KeyMaker
from ingest.plugin_loader import Processors

if TYPE_CHECKING:
    from ingest.queue import JobQueue

log = logging.getLogger(__name__)

BATCHES_AT_ONCE = 250
TILE_BATCHES_AT_ONCE = 5000  # these are arithmetic, and cost next to nothing
FIRST_BATCH_ITEMS = 32
_TELL_APART = "make destination.key tell them apart, for example with {path}"


class Feeder:
    """Feeds one job. Belongs to whoever holds the coordinator's duty; a second one does no harm."""

    def __init__(
        self,
        config: JobConfig,
        ledger: Ledger,
        queue: JobQueue,
        processors: Processors,
        keys: KeyMaker,
        grid: Grid | None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._queue = queue
        self._processors = processors
        self._keys = keys
        self._grid = grid
        self._cuts: Iterator[list[FileItem]] | None = None
        self._stands_at = (-1, "")

    def step(self) -> bool:
        """Record and queue the next batches, as many as there is room for. False where there is no room, or no more.

        Raises:
            IngestError: the source cannot be listed (what and where), or Redis cannot be reached.
        """
        _, counts, fields = self._ledger.snapshot()
        room = self._config.queue.max_batches - (counts.batches - counts.committed)
        if counts.enumerated or room < self._least_room:
            return False
        if self._grid is not None:
            return self._feed_tiles(self._grid, counts, min(room, TILE_BATCHES_AT_ONCE))
        try:
            return self._feed_files(counts, fields.get("cursor", ""), min(room, BATCHES_AT_ONCE))
        except Exception:
            self._cuts = None  # it has passed items that are not recorded: begin anew where the ledger stands
            raise

    @property
    def _least_room(self) -> int:
        """From how much room on it is worth a step: a step a batch would cost as much as the batch."""
        return max(1, self._config.queue.max_batches // 10)

    def _feed_tiles(self, grid: Grid, counts: Counts, batches_at_once: int) -> bool:
        batch_items = self._config.batch_items
        total = -(-len(grid) // batch_items)
        stop = min(total, counts.batches + batches_at_once)
        items = min(len(grid), stop * batch_items) - min(len(grid), counts.batches * batch_items)
        payloads = [b""] * (stop - counts.batches)
        return self._record(
            counts.batches, payloads, items=items, size_bytes=0, cursor=str(stop), last=stop == total
        )

    def _feed_files(self, counts: Counts, cursor: str, batches_at_once: int) -> bool:
        if self._cuts is None or self._stands_at != (counts.batches, cursor):
            after = json.loads(cursor) if cursor else None
            self._cuts = self._cut(self.listed(after), counts.batches)
        cuts = list(itertools.islice(self._cuts, batches_at_once))
        last = len(cuts) < batches_at_once
        if last:
            # A source that went away in the middle lists nothing more; that is not its end.
            self._processors.path.check()
        if cuts:
            cursor = json.dumps(cuts[-1][-1].path)
        payloads = [pack_items(cut) for cut in cuts]
        items = sum(len(cut) for cut in cuts)
        size_bytes = sum(item.size_bytes or 0 for cut in cuts for item in cut)
        return self._record(
            counts.batches, payloads, items=items, size_bytes=size_bytes, cursor=cursor, last=last
        )

    def _record(
        self, batches: int, payloads: list[bytes], *, items: int, size_bytes: int, cursor: str, last: bool
    ) -> bool:
        answer = self._ledger.feed(
            batches, payloads, items=items, size_bytes=size_bytes, cursor=cursor, last=last
        )
        if answer != 1:
            self._cuts = None
            return answer == 0
        self._stands_at = (batches + len(payloads), cursor)
        self._queue.publish(range(batches, batches + len(payloads)))
        return not last

    def listed(self, after: str | None = None) -> Iterator[FileItem]:
        """The source's files after ``after``; a second item with a key is listed, marked to fail.

        Where the template cannot give two paths one key, nothing has to be remembered, and the source seeks.
        """
        if self._config.key_template.keeps_paths_apart():
            yield from self._processors.files(after)
            return
        seen: set[bytes] = set()
        first = next(self._processors.files(after), None)
        begun = False
        for item in self._processors.files():
            begun = begun or (first is not None and item.path == first.path)
            twin = self._seen_before(item, seen)
            if begun:
                yield (
                    replace(item, flaw=f"another item has the key {twin!r} too; {_TELL_APART}")
                    if twin
                    else item
                )
        if first is not None and not begun:
            raise SourceUnreadable(f"the source changed while it was listed: {first.path} is gone")

    def _seen_before(self, item: FileItem, seen: set[bytes]) -> str | None:
        """The item's key, if an item before it has that key too."""
        try:
            key = self._keys.key(item)
        except KeyInvalid:
            return None
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        if digest in seen:
            return key
        seen.add(digest)
        return None

    def _cut(self, items: Iterator[FileItem], number: int) -> Iterator[list[FileItem]]:
        """Batches of at most ``batch_items`` items and about ``batch_bytes`` bytes, beginning with ``number``.

        The first are smaller, so that a small job, too, is shared by all nodes.
        """
        most_items = self._config.batch_items
        batch: list[FileItem] = []
        size_bytes = 0
        for item in items:
            if batch and (
                len(batch) >= min(most_items, FIRST_BATCH_ITEMS << min(number // 4, 16))
                or size_bytes + (item.size_bytes or 0) > self._config.queue.batch_bytes
            ):
                yield batch
                batch, size_bytes, number = [], 0, number + 1
            batch.append(item)
            size_bytes += item.size_bytes or 0
        if batch:
            yield batch
