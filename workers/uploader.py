"""Storing an upload: read, hashed, checked against what is there, stored, and checked again."""

from __future__ import annotations

import hashlib
import logging
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ingest.digests import Digests, md5_of
from ingest.errors import KeyConflict, ObjectExists
from ingest.items import Item, item_id
from ingest.markers import DUPLICATE_OF
from ingest.processors import Upload
from ingest.stores.base import ObjectInfo, ObjectMeta, Stored, Transfer, UploadRecords
from ingest.stores.source import ensure_size, fingerprint, read_steady, size_of
from ingest.workers.dedupe import Dedupe
from ingest.workers.known_files import FileState, Known
from ingest.workers.patience import PatientStore
from ingest.workers.settling import Settling
from ingest.workers.upload import Made, Outcome, Task, UploadPolicy
from ingest.workers.watch import Watch

log = logging.getLogger(__name__)

TRIES = 2
"""How often a put is tried whose key is taken by what is gone when it is looked at."""
_MEDIA_TYPES = mimetypes.MimeTypes(filenames=())


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
        self._settling = Settling(store, policy)
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
        state: FileState | None = None,
    ) -> Task:
        """An upload as it is handed to a thread.

        Args:
            listed_bytes: the size that its file had when it was listed, where the file is the item's own.
            state: see :class:`Task`.

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
        return Task(
            item, key, upload, size_bytes, size_bytes >= self._policy.large_bytes, listed, again, state
        )

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
            stored = self._store.put(made.key, body, made.meta, if_absent=self._settling.guarded)
            self._watch.count(0, len(body))
            return stored

        there = self._settling.found(task, ask=False)
        if self._settling.is_from_before(there, len(body)) and there.etag == md5_of(body):
            return made.outcome("skipped", there.etag)
        return self._stored(made, there, put)

    def unchanged(self, task: Task) -> Outcome | None:
        """The outcome of an upload that a listing alone proves to be there already; else None. Asks no store.

        Raises:
            SourceMissing, SourceChanged, SourceUnreadable: the file behind it.
        """
        there, given = task.listed, task.upload.body
        if task.is_streamed or not self._settling.is_from_before(there, task.size_bytes):
            return None
        body = given if isinstance(given, bytes) else read_steady(given, task.size_bytes)
        if there.etag != md5_of(body):
            return None
        return self._object(task, *self._hashed(body), body).outcome("skipped", there.etag)

    def unread(self, task: Task, known: Known) -> Outcome | None:
        """As :meth:`unchanged`, of a file of which all is known from when it was read before."""
        there, names = task.listed, self._policy.digests
        if not self._settling.is_from_before(there, task.size_bytes) or there.etag != known.etag:
            return None
        if not known.digests.keys() >= set(names):
            return None
        digests = {name: known.digests[name] for name in names}
        return self._object(task, known.sha256, task.size_bytes, digests, None).outcome("skipped", there.etag)

    def known(self, outcome: Outcome) -> Known | None:
        """What is known of a file, now that it has this outcome; None where its key has no object of its own."""
        if outcome.etag is None or DUPLICATE_OF in outcome.metadata:
            return None
        digests = {name: outcome.metadata[name] for name in self._policy.digests}
        return Known(outcome.sha256, outcome.etag, digests)

    def _streamed(self, task: Task) -> Outcome:
        """Store a large file, as :meth:`_whole`; it is hashed first."""
        path = task.upload.body
        assert isinstance(path, Path)
        ensure_size(path, task.size_bytes)
        digests = Digests(self._policy.digests)
        hashing = self._hashing(task.item.name, task.size_bytes, digests)
        read = fingerprint(path, self._store.cut(task.size_bytes), self._watch.check, hashing)
        ensure_size(path, task.size_bytes)  # a recording that goes on is not whole, though it pauses
        made = self._object(task, read.sha256, read.size_bytes, digests.found(), None, read.digests)

        def put() -> Stored:
            sent = self._sent(task.item.name, read.size_bytes)
            transfer = Transfer(read.digests, self._records, self._watch.check, sent)
            return self._store.put_file(
                made.key, path, made.meta, if_absent=self._settling.guarded, transfer=transfer
            )

        return self._stored(made, self._settling.found(task, ask=True), put)

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
    ) -> Made:
        known = task.upload.content_type or _MEDIA_TYPES.guess_type(task.key)[0]
        whose = {"ingest-item": f"{self._policy.job_id}/{item_id(task.item)}"}
        meta = ObjectMeta(sha256, known or "application/octet-stream", whose)
        facts = {**task.upload.metadata, **digests} if digests else task.upload.metadata
        return Made(task.key, size_bytes, meta, facts, task.again, body, parts)

    def _stored(self, made: Made, there: ObjectInfo | None, put: Callable[[], Stored]) -> Outcome:
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

    def _under_its_key(self, made: Made, there: ObjectInfo | None, put: Callable[[], Stored]) -> Outcome:
        """Put it, unless what is there, or appears meanwhile, is the same."""
        found, tries = self._settling.settle(made, there), 0
        while found is None:
            tries += 1
            try:
                stored = put()
            except ObjectExists:
                found = self._settling.settle(made, self._store.stat(made.key))
                if found is None and tries == TRIES:
                    raise KeyConflict(
                        f"{made.key!r} appeared and vanished while it was being stored"
                    ) from None
            else:
                found = made.outcome("stored", stored.etag)
        return found

    def _hashing(self, name: str, size_bytes: int, digests: Digests) -> Callable[[memoryview], None]:
        """What takes a large file's further digests, and reports how much of it is read."""
        done_bytes = 0

        def hashed(piece: memoryview) -> None:
            nonlocal done_bytes
            digests.update(piece)
            done_bytes += len(piece)
            self._watch.take(f"{name}: hashing, {min(99, 100 * done_bytes // size_bytes)} %")

        return hashed

    def _sent(self, name: str, size_bytes: int) -> Callable[[int], None]:
        """What reports how much of a large file is stored."""
        done_bytes = 0

        def sent(part_bytes: int) -> None:
            nonlocal done_bytes
            done_bytes += part_bytes
            self._watch.take(f"{name}: {min(done_bytes, size_bytes) >> 20} of {size_bytes >> 20} MiB")
            self._watch.count(0, part_bytes)

        return sent
