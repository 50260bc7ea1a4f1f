"""One upload: how a job treats it, how it is handed to a thread, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ingest.items import Item
from ingest.markers import DUPLICATE_OF
from ingest.processors import Upload
from ingest.stores.base import ObjectInfo, ObjectMeta
from ingest.workers.known_files import FileState


@dataclass(frozen=True, slots=True)
class UploadPolicy:
    """How a job treats its uploads.

    Attributes:
        job_id: written into each object, with the item, so that work done twice is known from a conflict.
        on_existing: ``skip``, ``overwrite`` or ``fail``.
        large_bytes: from this size on a file is hashed first and then streamed.
        if_absent: the store refuses to overwrite where it is asked to.
        knows_writer: the store gives back who wrote an object. Where it does not, an equal object that was found
            counts as another's, and is skipped: so does work done twice, and two jobs that store the same files
            never take each other's for their own.
        was_empty: nothing was at the destination when the job began. Where the writer is not known, ``fail``
            then does not refuse an equal object, which this job may have stored itself.
        older_than_s: what a listing shows as older (Unix, by the store's clock) was there before the job, and its
            ETag, where it is an MD5, is that of its bytes. None where the store does not say, or has other ETags.
        digests: further hashes that go into the manifest; see :mod:`ingest.digests`.
    """

    job_id: str
    on_existing: Literal["skip", "overwrite", "fail"]
    large_bytes: int
    if_absent: bool
    knows_writer: bool
    was_empty: bool
    older_than_s: float | None = None
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an upload: it is stored under its key now, by this job or before.

    ``metadata`` is the upload's own, for the manifest. Where it has a ``duplicate_of``, nothing is stored under the
    key: the object that this names, from the bucket's root, has the bytes, and the ETag.
    """

    key: str
    size_bytes: int
    sha256: str
    etag: str | None
    content_type: str
    status: Literal["stored", "skipped"]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """An upload as it is handed to a thread.

    Attributes:
        item: whose it is.
        key: where it goes.
        upload: the processor's.
        size_bytes: of its body.
        is_streamed: it is too large to be held in memory.
        listed: what a listing found under the key.
        again: this job may have stored it before: its batch was begun before, or the item was.
        state: its file's, where that is the source itself, and is to be known again; else None.
    """

    item: Item
    key: str
    upload: Upload
    size_bytes: int
    is_streamed: bool
    listed: ObjectInfo | None
    again: bool
    state: FileState | None = None

    @property
    def held_bytes(self) -> int:
        """What it takes of the memory."""
        return 0 if self.is_streamed else self.size_bytes


@dataclass(frozen=True, slots=True)
class Made:
    """What a task makes: its key, its size, what is stored with it, and what the manifest says beside that.

    ``body`` is None where it is too large to be held in memory; then ``parts`` are the digests of the parts that it
    is sent in, where the store says how it cuts.
    """

    key: str
    size_bytes: int
    meta: ObjectMeta
    facts: Mapping[str, str]
    again: bool
    body: bytes | None
    parts: Sequence[bytes] | None = None

    def outcome(self, status: Literal["stored", "skipped"], etag: str | None) -> Outcome:
        """What became of it, where its own key has it."""
        meta = self.meta
        return Outcome(self.key, self.size_bytes, meta.sha256, etag, meta.content_type, status, self.facts)

    def duplicate(self, of: ObjectInfo) -> Outcome:
        """What became of it, where another object has its bytes."""
        facts = {**self.facts, DUPLICATE_OF: of.key}
        return replace(self.outcome("skipped", of.etag), metadata=facts)
