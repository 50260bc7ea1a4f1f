"""What an object that is there under an upload's key means for it: it counts, it is in the way, or it may go."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TypeGuard

from ingest.errors import KeyConflict
from ingest.stores.base import ObjectInfo
from ingest.stores.proven import has_its_bytes, is_contradicted
from ingest.workers.patience import PatientStore
from ingest.workers.upload import Made, Outcome, Task, UploadPolicy

log = logging.getLogger(__name__)


class Settling:
    """Looks for what is there, and settles what that means, as the job's policy has it."""

    def __init__(self, store: PatientStore, policy: UploadPolicy) -> None:
        self._store = store
        self._policy = policy

    def found(self, task: Task, *, ask: bool) -> ObjectInfo | None:
        """What is under the key already, as far as that is worth a question: a large file is not sent in vain.

        A key made of what its processor found was in no listing, and may be another item's too.
        """
        made_of_fields = bool(task.upload.fields)
        if self._policy.on_existing == "overwrite":
            return self._store.stat(task.key) if made_of_fields and self._policy.knows_writer else None
        ask = ask or (made_of_fields and not self.guarded)
        return task.listed or (self._store.stat(task.key) if ask else None)

    @property
    def guarded(self) -> bool:
        """Whether the store is asked to refuse to overwrite, and does."""
        return self._policy.if_absent and self._policy.on_existing != "overwrite"

    def is_from_before(self, there: ObjectInfo | None, size_bytes: int) -> TypeGuard[ObjectInfo]:
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

    def settle(self, made: Made, there: ObjectInfo | None) -> Outcome | None:
        """What the object that is there under the key means: equal content is an outcome, other a conflict.

        None where there is none, or it may be overwritten. One of this item's own that was garbled is deleted.
        """
        policy = self._policy
        info = there if there is None or there.sha256 is not None else self._store.stat(made.key)
        if info is None:
            return None
        is_ours = info.metadata.get("ingest-item") == made.meta.metadata["ingest-item"]
        if info.job_id == policy.job_id and not is_ours:
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
        # Another tool stored it, or the server has forgotten; or who put it never saw what the store made of it.
        if is_same_size and (info.sha256 is None or self._is_contradicted(info, made)):
            info = replace(info, sha256=self._store.sha256(made.key))
        if not is_same_size or info.sha256 != made.meta.sha256:
            raise KeyConflict(
                f"{made.key!r} exists with other content ({_facts(info)}; this item has {made.size_bytes} bytes)",
                hint="a new job keeps both with another destination.key, such as one with {job} in it; with "
                "destination.on_existing 'overwrite' it replaces what is stored, which may be the last of it",
            )
        may_be_ours = is_ours or (not policy.knows_writer and (policy.was_empty or made.again))
        if policy.on_existing == "fail" and not may_be_ours:
            raise KeyConflict(
                f"{made.key!r} exists already, with the same content, and destination.on_existing is 'fail'"
            )
        return made.outcome("stored" if is_ours else "skipped", info.etag)

    def _has_its_bytes(self, info: ObjectInfo, made: Made) -> bool:
        checksum = self._store.capabilities.checksum
        return has_its_bytes(
            info, made.size_bytes, checksum, self._store.sha256, body=made.body, parts=made.parts
        )

    def _is_contradicted(self, info: ObjectInfo, made: Made) -> bool:
        return is_contradicted(info, self._store.capabilities.checksum, body=made.body, parts=made.parts)


def _facts(info: ObjectInfo) -> str:
    known = f", SHA-256 {info.sha256[:12]}…" if info.sha256 else ", no SHA-256 recorded"
    return f"{info.size_bytes} bytes{known}"
