"""One upload: read, hashed, checked against what is there, stored, and checked again."""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ingest.errors import KeyConflict, ObjectExists, SourceChanged, SourceMissing, SourceUnreadable
from ingest.items import FileItem, Item, item_id
from ingest.processors import Upload
from ingest.stores.base import ObjectInfo, ObjectMeta, Stored, Transfer, UploadRecords
from ingest.workers.budget import BytesBudget
from ingest.workers.patience import PatientStore
from ingest.workers.watch import Watch

HASH_PIECE_BYTES = 4 << 20
_MEDIA_TYPES = mimetypes.MimeTypes(filenames=())


@dataclass(frozen=True, slots=True)
class UploadPolicy:
    """How a job treats its uploads.

    Attributes:
        job_id: written into each object, with the item, so that work done twice is known from a conflict.
        on_existing: ``skip``, ``overwrite`` or ``fail``.
        large_bytes: from this size on a file is hashed first and then streamed.
        if_absent: the store refuses to overwrite where it is asked to.
        knows_writer: the store gives back who wrote an object.
        was_empty: nothing was at the destination when the job began.
    """

    job_id: str
    on_existing: Literal["skip", "overwrite", "fail"]
    large_bytes: int
    if_absent: bool
    knows_writer: bool
    was_empty: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an upload: it is stored under its key now, by this job or before."""

    key: str
    size_bytes: int
    sha256: str
    etag: str | None
    content_type: str
    status: Literal["stored", "skipped"]
    metadata: Mapping[str, str] = field(default_factory=dict)


class Uploader:
    """Stores uploads. May be used from many threads at once."""

    def __init__(
        self,
        store: PatientStore,
        policy: UploadPolicy,
        budget: BytesBudget,
        watch: Watch,
        records: UploadRecords,
    ) -> None:
        self._store = store
        self._policy = policy
        self._budget = budget
        self._watch = watch
        self._records = records

    def store(self, item: Item, key: str, upload: Upload, existing: Mapping[str, ObjectInfo]) -> Outcome:
        """Store an upload under its key; ``existing`` is what a listing found there.

        May be repeated: where this job stored the same bytes for the same item before, that counts as stored.

        Raises:
            KeyConflict: the key has other content, or belongs to another item.
            SourceMissing, SourceChanged, SourceUnreadable: the file behind it.
            Stopped: the work was asked to stop.
        """
        content_type = upload.content_type or _MEDIA_TYPES.guess_type(key)[0] or "application/octet-stream"
        if isinstance(upload.body, bytes):
            return self._store_bytes(item, key, upload.body, content_type, existing)
        listed_bytes = item.size_bytes if isinstance(item, FileItem) and not upload.fields else None
        size_bytes = _size_of(upload.body, listed_bytes)
        if size_bytes >= self._policy.large_bytes:
            return self._store_large(item, key, upload.body, content_type, existing)
        with self._budget.held(size_bytes, self._watch.check):
            body = read_steady(upload.body, size_bytes)
            return self._store_bytes(item, key, body, content_type, existing)

    def _store_bytes(
        self, item: Item, key: str, body: bytes, content_type: str, existing: Mapping[str, ObjectInfo]
    ) -> Outcome:
        meta = self._meta(item, hashlib.sha256(body).hexdigest(), content_type)
        found = self._settle(item, key, len(body), meta, existing.get(key))
        if found is not None:
            return found
        try:
            stored = self._store.put(key, body, meta, if_absent=self._guarded)
        except ObjectExists:
            return self._lost_race(item, key, len(body), meta)
        self._watch.count(0, len(body))
        return _stored(stored, meta)

    def _store_large(
        self, item: Item, key: str, path: Path, content_type: str, existing: Mapping[str, ObjectInfo]
    ) -> Outcome:
        sha256, size_bytes = self._hash_file(path)
        meta = self._meta(item, sha256, content_type)
        found = self._settle(item, key, size_bytes, meta, existing.get(key) or self._ask(key))
        if found is not None:
            return found
        transfer = Transfer(self._records, self._watch.check, self._sent(item.name, size_bytes))
        try:
            stored = self._store.put_file(key, path, meta, if_absent=self._guarded, transfer=transfer)
        except ObjectExists:
            return self._lost_race(item, key, size_bytes, meta)
        return _stored(stored, meta)

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

    def _meta(self, item: Item, sha256: str, content_type: str) -> ObjectMeta:
        return ObjectMeta(sha256, content_type, {"ingest-item": f"{self._policy.job_id}/{item_id(item)}"})

    def _ask(self, key: str) -> ObjectInfo | None:
        return None if self._policy.on_existing == "overwrite" else self._store.stat(key)

    def _settle(
        self, item: Item, key: str, size_bytes: int, meta: ObjectMeta, listed: ObjectInfo | None
    ) -> Outcome | None:
        """What the object that is there under the key means: equal content is an outcome, other a conflict.

        None where there is none, or it may be overwritten.
        """
        if listed is None or self._policy.on_existing == "overwrite":
            return None
        info = listed if listed.sha256 is not None else self._store.stat(key)
        if info is None:
            return None
        mine = info.metadata.get("ingest-item", "")
        ours = mine == meta.metadata["ingest-item"] or (
            not self._policy.knows_writer and self._policy.was_empty
        )
        if mine.startswith(f"{self._policy.job_id}/") and not ours:
            raise KeyConflict(
                f"another item of this job was stored under {key!r} already",
                hint="make destination.key tell them apart, for example with {path}",
            )
        same_size = info.size_bytes == size_bytes
        if same_size and info.sha256 is None:  # another tool stored it, or the server has forgotten
            info = replace(info, sha256=self._store.sha256(key))
        if not same_size or info.sha256 != meta.sha256:
            raise KeyConflict(
                f"{key!r} exists with other content ({_facts(info)}; this item has {size_bytes} bytes)",
                hint="set destination.on_existing to 'overwrite' to replace it, or another destination.key",
            )
        if self._policy.on_existing == "fail" and not ours:
            raise KeyConflict(
                f"{key!r} exists already, with the same content, and destination.on_existing is 'fail'"
            )
        status: Literal["stored", "skipped"] = "stored" if ours else "skipped"
        return Outcome(key, size_bytes, meta.sha256, info.etag, meta.content_type, status)

    def _lost_race(self, item: Item, key: str, size_bytes: int, meta: ObjectMeta) -> Outcome:
        """The outcome where an object appeared since it was looked for."""
        info = self._store.stat(key)
        found = info and self._settle(item, key, size_bytes, meta, info)
        if not found:
            raise KeyConflict(f"{key!r} appeared and vanished while it was being stored")
        return found

    def _hash_file(self, path: Path) -> tuple[str, int]:
        sha256, size_bytes = hashlib.sha256(), 0
        try:
            with path.open("rb") as file:
                while piece := file.read(HASH_PIECE_BYTES):
                    sha256.update(piece)
                    size_bytes += len(piece)
                    self._watch.check()
        except OSError as error:
            raise _source_error(path, error) from None
        return sha256.hexdigest(), size_bytes


def _stored(stored: Stored, meta: ObjectMeta) -> Outcome:
    return Outcome(stored.key, stored.size_bytes, meta.sha256, stored.etag, meta.content_type, "stored")


def _facts(info: ObjectInfo) -> str:
    known = f", SHA-256 {info.sha256[:12]}…" if info.sha256 else ", no SHA-256 recorded"
    return f"{info.size_bytes} bytes{known}"


def _size_of(path: Path, listed_bytes: int | None) -> int:
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise _source_error(path, error) from None
    if listed_bytes is not None and size_bytes != listed_bytes:
        raise SourceChanged(
            f"it had {listed_bytes} bytes when it was listed and has {size_bytes} now",
            hint="retry when nothing writes to it any more",
        )
    return size_bytes


def read_steady(path: Path, size_bytes: int) -> bytes:
    """All of a file that has ``size_bytes``, and that does not change while it is read.

    Raises:
        SourceChanged: it has another size, or was written to meanwhile.
        SourceMissing, SourceUnreadable: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            before = os.fstat(descriptor)
            body = os.read(descriptor, size_bytes + 1)
            while len(body) < size_bytes and (more := os.read(descriptor, size_bytes + 1 - len(body))):
                body += more
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _source_error(path, error) from None
    if len(body) != size_bytes or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise SourceChanged("it changed while it was read", hint="retry when nothing writes to it any more")
    return body


def _source_error(path: Path, error: OSError) -> SourceMissing | SourceUnreadable:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return SourceMissing(f"{path} is not there any more")
    return SourceUnreadable(f"{path} cannot be read: {error.strerror}")
