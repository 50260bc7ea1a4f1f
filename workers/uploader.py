"""One upload: read, hashed, checked against what is there, stored, and checked again."""

from __future__ import annotations

import hashlib
import logging
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeGuard

from ingest.digests import Digests, md5_of
from ingest.errors import KeyConflict, ObjectExists
from ingest.items import Item, item_id
from ingest.markers import DUPLICATE_OF
from ingest.processors import Upload
from ingest.stores.base import ObjectInfo, ObjectMeta, Stored, Transfer, UploadRecords
from ingest.stores.proven import has_its_bytes
from ingest.stores.source import ensure_size, fingerprint, read_steady, size_of
from ingest.workers.dedupe import Dedupe
from ingest.workers.patience import PatientStore
from ingest.workers.watch import Watch

log = logging.getLogger(__name__)

TRIES = 2
"""How often a put is tried whose key is taken by what is gone when it is looked at."""
_MEDIA_TYPES = mimetypes.MimeTypes(filenames=())


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
    """

    item: Item
    key: str
    upload: Upload
    size_bytes: int
    is_streamed: bool
    listed: ObjectInfo | None
    again: bool

    @property
    def held_bytes(self) -> int:
        """What it takes of the memory."""
        return 0 if self.is_streamed else self.size_bytes


@dataclass(frozen=True, slots=True)
class _Object:
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
        meta = self.meta
        return Outcome(self.key, self.size_bytes, meta.sha256, etag, meta.content_type, status, self.facts)

    def duplicate(self, of: ObjectInfo) -> Outcome:
        facts = {**self.facts, DUPLICATE_OF: of.key}
        return replace(self.outcome("skipped", of.etag), metadata=facts)


class Uploader:
    """Stores uploads. May be used from many threads at once.

    Args:
        dedupe: finds content that the bucket has under other keys; None where that is not asked for.
    """

    def __init__(
        self,
        store: PatientStore,
        policy: UploadPolicy,
        watch: Watch,
        records: UploadRecords,
        dedupe: Dedupe | None = None,
    ) -> None:
        self._dedupe = dedupe
        self._store = store
        self._policy = policy
        self._watch = watch
        self._records = records

    def store(self, task: Task) -> Outcome:
        """Store an upload; see :meth:`_whole`."""
        return self._streamed(task) if task.is_streamed else self._whole(task)

    def task(
        self,
        item: Item,
        key: str,
        upload: Upload,
        *,
        listed: ObjectInfo | None,
        again: bool,
        listed_bytes: int | None,
    ) -> Task:
        """An upload as it is handed to a thread.

        Args:
            listed_bytes: the size that its file had when it was listed, where the file is the item's own.

        Raises:
            SourceMissing, SourceUnreadable: the file behind it.
            KeyInvalid: its key is kept for other things.
        """
        if self._dedupe is not None:
            self._dedupe.check_key(key)
        body = upload.body
        if isinstance(body, bytes):
            return Task(item, key, upload, len(body), False, listed, again)
        size_bytes = size_of(body) if listed_bytes is None else listed_bytes
        return Task(item, key, upload, size_bytes, size_bytes >= self._policy.large_bytes, listed, again)

    def _whole(self, task: Task) -> Outcome:
        """Store what fits into memory.

        May be repeated: where this job stored the same bytes for the same item before, that counts as stored.

        Raises:
            KeyConflict: the key has other content, or belongs to another item.
            SourceMissing, SourceChanged, SourceUnreadable: the file behind it.
            Stopped: the work was asked to stop.
        """
        given = task.upload.body
        body = given if isinstance(given, bytes) else read_steady(given, task.size_bytes)
        made = self._object(task, *self._hashed(body), body)

        def put() -> Stored:
            stored = self._store.put(made.key, body, made.meta, if_absent=self._guarded)
            self._watch.count(0, len(body))
            return stored

        there = self._found(task, ask=False)
        if self._is_from_before(there, len(body)) and there.etag == md5_of(body):
            return made.outcome("skipped", there.etag)
        return self._stored(made, there, put)

    def unchanged(self, task: Task) -> Outcome | None:
        """The outcome of an upload that a listing alone proves to be there already; else None. Asks no store.

        Raises:
            SourceMissing, SourceChanged, SourceUnreadable: the file behind it.
        """
        there, given = task.listed, task.upload.body
        if task.is_streamed or not self._is_from_before(there, task.size_bytes):
            return None
        body = given if isinstance(given, bytes) else read_steady(given, task.size_bytes)
        if there.etag != md5_of(body):
            return None
        return self._object(task, *self._hashed(body), body).outcome("skipped", there.etag)

    def _is_from_before(self, there: ObjectInfo | None, size_bytes: int) -> TypeGuard[ObjectInfo]:
        """Whether a listing shows an object of this size that is older than the job.

        Where its ETag is the MD5 too, nobody has to ask the store who wrote it. Of an empty one a listing proves
        nothing: it may stand for a folder.
        """
        before_s = self._policy.older_than_s
        return (
            there is not None
            and self._policy.on_existing == "skip"
            and before_s is not None
            and there.modified_s is not None
            and there.modified_s < before_s
            and there.size_bytes == size_bytes > 0
        )

    def _streamed(self, task: Task) -> Outcome:
        """Store a large file, as :meth:`_whole`; it is hashed first."""
        path = task.upload.body
        assert isinstance(path, Path)
        ensure_size(path, task.size_bytes)
        digests = Digests(self._policy.digests)
        read = fingerprint(path, self._store.cut(task.size_bytes), self._watch.check, digests.update)
        made = self._object(task, read.sha256, read.size_bytes, digests.found(), None, read.digests)

        def put() -> Stored:
            sent = self._sent(task.item.name, read.size_bytes)
            transfer = Transfer(read.digests, self._records, self._watch.check, sent)
            return self._store.put_file(made.key, path, made.meta, if_absent=self._guarded, transfer=transfer)

        return self._stored(made, self._found(task, ask=True), put)

    def _hashed(self, body: bytes) -> tuple[str, int, Mapping[str, str]]:
        """SHA-256 and size of a body, and what else the manifest is to have of it."""
        digests = Digests(self._policy.digests)
        digests.update(body)
        return hashlib.sha256(body).hexdigest(), len(body), digests.found()

    def _object(
        self,
        task: Task,
        sha256: str,
        size_bytes: int,
        digests: Mapping[str, str],
        body: bytes | None,
        parts: Sequence[bytes] | None = None,
    ) -> _Object:
        known = task.upload.content_type or _MEDIA_TYPES.guess_type(task.key)[0]
        whose = {"ingest-item": f"{self._policy.job_id}/{item_id(task.item)}"}
        meta = ObjectMeta(sha256, known or "application/octet-stream", whose)
        facts = {**task.upload.metadata, **digests} if digests else task.upload.metadata
        return _Object(task.key, size_bytes, meta, facts, task.again, body, parts)

    def _found(self, task: Task, *, ask: bool) -> ObjectInfo | None:
        """What is under the key already, as far as that is worth a question: a large file is not sent in vain.

        A key made of what its processor found was in no listing, and may be another item's too.
        """
        made_of_fields = bool(task.upload.fields)
        if self._policy.on_existing == "overwrite":
            return self._store.stat(task.key) if made_of_fields and self._policy.knows_writer else None
        ask = ask or (made_of_fields and not self._guarded)
        return task.listed or (self._store.stat(task.key) if ask else None)

    def _stored(self, made: _Object, there: ObjectInfo | None, put: Callable[[], Stored]) -> Outcome:
        """Put it, unless it is there under its key, or, where that is asked for, its content under another."""
        if self._dedupe is None:
            return self._under_its_key(made, there, put)
        with self._dedupe.content(made.meta.sha256, made.size_bytes) as content:
            holder = content.holder() if there is None else None
            if holder is not None:
                there = self._store.stat(made.key)
                if there is None:
                    return made.duplicate(holder)
            outcome = self._under_its_key(made, there, put)
            content.mark(made.key)
            return outcome

    def _under_its_key(self, made: _Object, there: ObjectInfo | None, put: Callable[[], Stored]) -> Outcome:
        """Put it, unless what is there, or appears meanwhile, is the same."""
        found, tries = self._settle(made, there), 0
        while found is None:
            tries += 1
            try:
                stored = put()
            except ObjectExists:
                found = self._settle(made, self._store.stat(made.key))
                if found is None and tries == TRIES:
                    raise KeyConflict(
                        f"{made.key!r} appeared and vanished while it was being stored"
                    ) from None
            else:
                found = made.outcome("stored", stored.etag)
        return found

    def _settle(self, made: _Object, there: ObjectInfo | None) -> Outcome | None:
        """What the object that is there under the key means: equal content is an outcome, other a conflict.

        None where there is none, or it may be overwritten. One of this item's own that was garbled is deleted.
        """
        policy = self._policy
        info = there if there is None or there.sha256 is not None else self._store.stat(made.key)
        if info is None:
            return None
        writer = info.metadata.get("ingest-item", "")
        is_ours = writer == made.meta.metadata["ingest-item"]
        if writer.startswith(f"{policy.job_id}/") and not is_ours:
            raise KeyConflict(
                f"another item of this job was stored under {made.key!r} already",
                hint="make destination.key tell them apart, for example with {path}",
            )
        if policy.on_existing == "overwrite":
            return None
        if is_ours and info.sha256 == made.meta.sha256 and not self._has_its_bytes(info, made):
            log.warning("%r has other bytes than were sent, and is stored again", made.key)
            self._store.delete([made.key])
            return None
        is_same_size = info.size_bytes == made.size_bytes
        if is_same_size and info.sha256 is None:  # another tool stored it, or the server has forgotten
            info = replace(info, sha256=self._store.sha256(made.key))
        if not is_same_size or info.sha256 != made.meta.sha256:
            raise KeyConflict(
                f"{made.key!r} exists with other content ({_facts(info)}; this item has {made.size_bytes} bytes)",
                hint="set destination.on_existing to 'overwrite' to replace it, or another destination.key",
            )
        may_be_ours = is_ours or (not policy.knows_writer and (policy.was_empty or made.again))
        if policy.on_existing == "fail" and not may_be_ours:
            raise KeyConflict(
                f"{made.key!r} exists already, with the same content, and destination.on_existing is 'fail'"
            )
        return made.outcome("stored" if is_ours else "skipped", info.etag)

    def _has_its_bytes(self, info: ObjectInfo, made: _Object) -> bool:
        checksum = self._store.capabilities.checksum
        return has_its_bytes(
            info, made.size_bytes, checksum, self._store.sha256, body=made.body, parts=made.parts
        )

    def _sent(self, name: str, size_bytes: int) -> Callable[[int], None]:
        """What reports how much of a large file is stored."""
        done_bytes = 0

        def sent(part_bytes: int) -> None:
            nonlocal done_bytes
            done_bytes += part_bytes
            self._watch.take(f"{name}: {done_bytes >> 20} of {size_bytes >> 20} MiB")
            self._watch.count(0, part_bytes)

        return sent

    @property
    def _guarded(self) -> bool:
        return self._policy.if_absent and self._policy.on_existing != "overwrite"


def _facts(info: ObjectInfo) -> str:
    known = f", SHA-256 {info.sha256[:12]}…" if info.sha256 else ", no SHA-256 recorded"
    return f"{info.size_bytes} bytes{known}"
