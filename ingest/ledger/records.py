"""What a ledger holds: a job's state, its counters, attempts at batches, and failed items."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import zstandard

from ingest.config import JobConfig
from ingest.items import Item, decode_item
from ingest.stores.base import Capabilities


class State(StrEnum):
    """A job's state. ``preparing → uploading → completing → complete | failed``, and three ways out."""

    PREPARING = "preparing"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    COMPLETING = "completing"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """Whether no work is left in it. A failed job may be reopened by ``retry``."""
        return self in (State.COMPLETE, State.FAILED, State.CANCELLED, State.EXPIRED)


OPEN_STATES = (State.PREPARING, State.UPLOADING, State.UPLOADED, State.COMPLETING)
"""The states that a job can be cancelled from, or expire in."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What does not change of a job."""

    job_id: str
    config: JobConfig
    capabilities: Capabilities
    created_s: int
    manual_complete: bool
    destination_was_empty: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """A job's counters. ``*_listed`` grow while the job is enumerated; the others are exact at any time.

    ``items_total`` is known from the start for tiles (-1: not yet).
    """

    items_total: int
    items_listed: int
    bytes_listed: int
    batches: int
    committed: int
    enumerated: bool
    done: int
    skipped: int
    failed: int
    blank: int
    bytes_done: int
    bytes_failed: int
    objects: int
    bytes_stored: int


@dataclass(frozen=True, slots=True)
class Kills:
    """How often an item was in hand by itself when its process died, and why that was ended, where it is known."""

    times: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a batch.

    Attributes:
        number: 1 for the first.
        items: the batch's items where it is not arithmetic, else None.
        kills: index of an item → how often it was in hand by itself when its process died.
        began_s: Redis's time, in seconds since 1970 UTC.
        payload_sha1: of the batch's payload; a commit names it, so that it counts for these items and no others.
        was_begun: before this, be it by an attempt that was stopped and does not count, or in a batch in which its
            items failed: some of it may be stored.
    """

    number: int
    items: list[Item] | None
    kills: Mapping[int, Kills]
    began_s: int
    payload_sha1: str
    was_begun: bool


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item that could not be stored through its own fault."""

    item: Item
    error: str
    reason: str
    source: str = ""
    node: str = ""
    time_s: int = 0

    def encode(self) -> str:
        """As JSON; names that are not UTF-8 survive as escapes."""
        return json.dumps([self.item.encode(), self.error, self.reason, self.source, self.node, self.time_s])

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """From what :meth:`encode` made."""
        item, *rest = json.loads(text)
        return cls(decode_item(item), *rest)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for ``failures --json``."""
        return {
            "item": self.item.name,
            "source": self.source or None,
            "error": self.error,
            "reason": self.reason,
            "node": self.node,
            "time_s": self.time_s,
        }


@dataclass(frozen=True, slots=True)
class Listed:
    """Which files of a listing a batch has, so that they are found and known when it is listed again.

    Attributes:
        first: the path of the first.
        count: how many they are.
        digest: of all their paths, in order.
    """

    first: str
    count: int
    digest: str

    @classmethod
    def of(cls, items: Sequence[Item]) -> Self:
        """Of a batch's items."""
        names = "\0".join(item.name for item in items).encode(errors="surrogateescape")
        return cls(items[0].name, len(items), hashlib.blake2b(names, digest_size=8).hexdigest())


@dataclass(frozen=True, slots=True)
class Part:
    """What the ledger knows of a batch's manifest part.

    Attributes:
        token: in its name.
        counters: what its batch added to the counters.
        listed: which files it has, where they were listed.
    """

    token: str
    counters: Mapping[str, int] = field(default_factory=dict)
    listed: Listed | None = None

    def encode(self) -> str:
        """As JSON, in few bytes: a job may have millions."""
        counters = {name: by for name, by in self.counters.items() if by}
        listed = [self.listed.first, self.listed.count, self.listed.digest] if self.listed else None
        return json.dumps([self.token, counters, listed], separators=(",", ":"))

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """From what :meth:`encode` made."""
        token, counters, listed = json.loads(text)
        return cls(token, counters, Listed(*listed) if listed else None)


@dataclass(frozen=True, slots=True)
class Tally:
    """What a batch adds to the counters, and its failed items by index."""

    counters: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[int, FailedItem] = field(default_factory=dict)


def pack_items(items: Sequence[Item]) -> bytes:
    """Items as compressed JSON: a batch's payload."""
    return zstandard.compress(
        json.dumps([item.encode() for item in items], separators=(",", ":")).encode(), 3
    )


def unpack_items(payload: bytes) -> list[Item]:
    """The items that :func:`pack_items` packed."""
    return [decode_item(fields) for fields in json.loads(zstandard.decompress(payload))]
