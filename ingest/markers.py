"""Which object of a bucket has a content: markers, as CETI's ``data-ingest`` keeps them.

A marker is an object ``raw/hash/<SHA-256>`` at the bucket's root. Its body is the key, from the root too, of the
object that has the content, as UTF-8 and without a newline (``s3upload.py`` of https://github.com/Project-CETI/data-ingest).
That tool takes a marker's mere existence for a proof, so none may outlive its object where we delete that.

``raw/hash/jobs/<job>/<other>`` says that ``other`` refers to objects that ``job`` stored. ``other`` writes it first and
then looks whether the marker is still there; to delete what it stored, ``job`` first deletes the markers, and then
looks whether anybody refers to it. So one of the two always notices. Where the store does not say who stored an
object, ``unknown/<SHA-256>`` stands for ``job``.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ingest.config import MARKERS_FOLDER, checked_key
from ingest.config.key_template import MAX_KEY_BYTES
from ingest.errors import KeyInvalid, ObjectExists, ObjectMissing, StoreError
from ingest.stores.base import ObjectInfo, ObjectMeta, Store

FOLDER = MARKERS_FOLDER
JOBS_FOLDER = f"{FOLDER}jobs/"
DUPLICATE_OF = "duplicate_of"
"""Metadata of a manifest's row: the key, from the bucket's root, of the object that has the item's bytes."""
_ETAG = "object-etag"
_WORKERS = 16


def object_key(key: str, metadata: Mapping[str, str], prefix: str) -> str:
    """The key, from the bucket's root, of the object that has the bytes of a manifest's row.

    Args:
        key: the row's key.
        metadata: the row's metadata.
        prefix: :attr:`ingest.config.Destination.prefix` of its job.
    """
    return metadata.get(DUPLICATE_OF) or prefix + key


def unknown_writer(sha256: str) -> str:
    """Stands for the job that stored a content, where the store does not say which it was."""
    return f"unknown/{sha256}"


class Markers:
    """The markers of a bucket. May be used from many threads; every method may be repeated.

    Args:
        bucket: the whole bucket as a store.
    """

    def __init__(self, bucket: Store) -> None:
        self._bucket = bucket

    def read(self, sha256: str) -> str | None:
        """What the marker of a content names; None where there is no marker, "" where it names no key."""
        try:
            body = self._bucket.first_bytes(FOLDER + sha256, MAX_KEY_BYTES + 1)
        except ObjectMissing:
            return None
        try:
            key = checked_key(body.decode())
        except (UnicodeDecodeError, KeyInvalid):
            return ""
        return "" if key.startswith(FOLDER) else key

    def write(self, sha256: str, key: str, *, if_absent: bool, etag: str = "") -> None:
        """Write the marker of a content, whose object is stored and was checked.

        Args:
            key: the object's key, from the bucket's root.
            if_absent: leave one that is there.
            etag: of the object, where it was read back to be checked; see :meth:`was_read_back`.
        """
        if if_absent and not self._bucket.capabilities.if_absent and self.read(sha256) is not None:
            return
        body = key.encode()
        metadata = {_ETAG: etag} if etag else {}
        meta = ObjectMeta(hashlib.sha256(body).hexdigest(), "text/plain; charset=utf-8", metadata)
        try:
            self._bucket.put(FOLDER + sha256, body, meta, if_absent=if_absent)
        except ObjectExists:
            return  # another was quicker, and names another object with this content

    def was_read_back(self, sha256: str, info: ObjectInfo) -> bool:
        """Whether the object that a marker names was read back before, and found to have the content."""
        if not info.etag or not self._bucket.capabilities.metadata:
            return False
        marker = self._bucket.stat(FOLDER + sha256)
        return marker is not None and marker.metadata.get(_ETAG) == info.etag

    def note_use(self, of: str, by_job: str) -> None:
        """Say that a job refers to what another stored.

        Args:
            of: the other job, or :func:`unknown_writer` where the store does not say which it was.
        """
        body = f"job {by_job} refers to this\n".encode()
        meta = ObjectMeta(hashlib.sha256(body).hexdigest(), "text/plain; charset=utf-8")
        self._bucket.put(f"{JOBS_FOLDER}{of}/{by_job}", body, meta)

    def withdraw(self, job_id: str, objects: Sequence[tuple[str, str]]) -> dict[str, frozenset[str]]:
        """Delete the markers that name these objects, which ``job_id`` stored and is about to delete.

        Args:
            objects: pairs of a key, from the bucket's root, and its SHA-256.

        Returns:
            The keys of those that must stay, as other jobs refer to them, and these jobs. Their markers stay, too.
        """
        with ThreadPoolExecutor(_WORKERS, "markers") as workers:
            named = workers.map(lambda pair: self.read(pair[1]) == pair[0], objects)
            self._bucket.delete(
                [FOLDER + pair[1] for pair, is_so in zip(objects, named, strict=True) if is_so]
            )
            of_all = self._users(job_id, job_id)
            of_each = workers.map(lambda pair: of_all | self._users(unknown_writer(pair[1]), job_id), objects)
            used = {pair: users for pair, users in zip(objects, of_each, strict=True) if users}
            for _ in workers.map(lambda pair: self.write(pair[1], pair[0], if_absent=True), used):
                pass
        return {key: users for (key, _), users in used.items()}

    def _users(self, of: str, but: str) -> frozenset[str]:
        """The jobs that refer to what a job stored, but one."""
        listed = self._bucket.list(f"{JOBS_FOLDER}{of}/")
        return frozenset(info.key.rpartition("/")[2] for info in listed) - {but}

    def forget_uses(self, by_job: str) -> None:
        """A job refers to nothing any more: its manifest is gone."""
        there: Iterable[ObjectInfo] = self._bucket.list(JOBS_FOLDER)
        self._bucket.delete([info.key for info in there if info.key.endswith(f"/{by_job}")])

    def probe(self) -> None:
        """Find out whether markers can be kept: one is looked for, and a small object is written and deleted.

        Raises:
            StoreError: they cannot; the hint says what for they are.
        """
        name = f"probe-{secrets.token_hex(8)}"
        key = f"{JOBS_FOLDER}{name}/{name}"
        try:
            self.note_use(name, name)
            self._bucket.first_bytes(key, 1)
            self._bucket.delete([key])
            self.read(name)
        except StoreError as error:
            needed = (
                f"destination.dedupe keeps markers below {FOLDER} at the bucket's root, and credentials must allow "
                "to list, read, write and delete there"
            )
            raise type(error)(error.what, hint=f"{needed}; {error.hint}" if error.hint else needed) from error
