"""A batch, and what became of it, as the ledger and the manifest want it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ingest.errors import IngestError
from ingest.items import FileItem, Item
from ingest.ledger import FailedItem, Kills, Tally
from ingest.manifest_parts import Row
from ingest.workers.upload import Outcome

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as a node takes it.

    Attributes:
        number: its number within the job.
        items: what is in it.
        attempt: 1 for the first try.
        kills: index of an item → how often it was in hand, by itself, when its process died.
        began_s: Redis's time when the attempt began, in seconds since 1970 UTC.
        was_begun: an attempt before this one, counted or not, may have stored some of it.
    """

    number: int
    items: Sequence[Item]
    attempt: int = 1
    kills: Mapping[int, Kills] = field(default_factory=dict)
    began_s: int = 0
    was_begun: bool = False


@dataclass(slots=True)
class BatchResult:
    """What became of a batch's items."""

    batch: Batch
    node: str
    rows: list[Row] = field(default_factory=list)
    failures: dict[int, FailedItem] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)

    @property
    def tally(self) -> Tally:
        """For the ledger."""
        return Tally(self.counters, self.failures)

    def succeed(self, item: Item, source: str, outcomes: Sequence[Outcome]) -> None:
        """Note an item that is stored: done where this job stored any of its objects, else skipped."""
        size_bytes = item.size_bytes if isinstance(item, FileItem) else None
        stored = [outcome for outcome in outcomes if outcome.status == "stored"]
        count = self.counters
        count["done" if stored else "skipped"] += 1
        count["blank"] += any("blank" in outcome.metadata for outcome in outcomes)
        made_bytes = sum(outcome.size_bytes for outcome in outcomes)
        count["bytes_done"] += made_bytes if size_bytes is None else size_bytes
        count["objects"] += len(stored)
        count["bytes_stored"] += sum(outcome.size_bytes for outcome in stored)
        self.rows += [self._row(item, source, size_bytes, outcome) for outcome in outcomes]

    def _row(self, item: Item, source: str, size_bytes: int | None, outcome: Outcome) -> Row:
        return Row(
            item=item.name,
            source=source,
            size_bytes=size_bytes,
            mtime=item.mtime_ns if isinstance(item, FileItem) else None,
            key=outcome.key,
            stored_bytes=outcome.size_bytes,
            sha256=outcome.sha256,
            etag=outcome.etag,
            content_type=outcome.content_type,
            status=outcome.status,
            node=self.node,
            attempt=self.batch.attempt,
            time=self.batch.began_s or int(time.time()),
            metadata=outcome.metadata,
        )

    def fail(self, index: int, source: str, error: Exception) -> None:
        """Note an item that failed, with a reason that a person can act on."""
        item = self.batch.items[index]
        reason = str(error)
        if not isinstance(error, IngestError):
            log.error("item %s failed through a fault in a plugin or in Ingest", item.name, exc_info=error)
            reason = f"a fault in a plugin or in Ingest: {error!r}"
        failure = FailedItem(item, type(error).__name__, reason, source, self.node, self.batch.began_s)
        self.failures[index] = failure
        self.counters["failed"] += 1
        self.counters["bytes_failed"] += (item.size_bytes or 0) if isinstance(item, FileItem) else 0
