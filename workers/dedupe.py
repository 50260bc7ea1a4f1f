"""Content that the bucket has already, under whatever key, and so is not sent again."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Set
from contextlib import contextmanager

from ingest.errors import ItemError, KeyInvalid
from ingest.markers import FOLDER, Markers, unknown_writer
from ingest.processors import Slots
from ingest.stores.base import ObjectInfo
from ingest.workers.patience import PatientStore

log = logging.getLogger(__name__)

MOST_REMEMBERED = 10_000
_JOB_ID = re.compile(r"[0-9a-z]{1,40}")


class Dedupe:
    """Finds the object that has a content, and marks those that are stored. May be used from many threads.

    The thread that is about to store a content asks for it, so a batch's items are asked for at once.

    Args:
        bucket: the whole bucket.
        prefix: what the job's keys begin with there.
        job_id: the job.
        slots: of the job, so that its nodes do not send one content at one time.
    """

    def __init__(self, bucket: PatientStore, prefix: str, job_id: str, slots: Slots) -> None:
        self.prefix = prefix
        self.markers = Markers(bucket)
        self._bucket = bucket
        self._job_id = job_id
        self._slots = slots
        self._used_jobs: set[str] = set()
        self._read_back: dict[tuple[str, str], str | None] = {}

    def check_key(self, key: str) -> None:
        """Refuse a key among the markers.

        Raises:
            KeyInvalid: it is one.
        """
        if (self.prefix + key).startswith(FOLDER):
            raise KeyInvalid(
                f"its key {key!r} lies below {FOLDER} in the bucket, where destination.dedupe keeps its markers",
                hint="set destination.key",
            )

    @contextmanager
    def content(self, sha256: str, size_bytes: int) -> Iterator[Content]:
        """Within it no other thread or node of the job stores this content, as long as Redis is there.

        Raises:
            Stopped, RedisError: see :meth:`ingest.processors.Slots.take`.
        """
        with self._slots.take(f"content:{sha256}", 1):
            yield Content(self, sha256, size_bytes)

    @property
    def used_jobs(self) -> Set[str]:
        """The other jobs that have been told, up to now, that this one refers to what they stored."""
        return frozenset(self._used_jobs)

    def proven(self, key: str, sha256: str, size_bytes: int, told: Set[str]) -> ObjectInfo | None:
        """The object that a marker names, if it truly has the content, and stays.

        Args:
            told: :attr:`used_jobs` before the marker was read.
        """
        info = self._bucket.stat(key)
        if info is None or info.size_bytes != size_bytes:
            return None
        if (info.sha256 or self._sha256(sha256, info)) != sha256:
            return None
        return info if self._stays(info, sha256, told) else None

    def _sha256(self, expected: str, info: ObjectInfo) -> str | None:
        """The SHA-256 of an object that has none recorded. It is read back once, and its marker remembers that."""
        known = (info.key, info.etag or "")
        if known in self._read_back:
            return self._read_back[known]
        if self.markers.was_read_back(expected, info):
            return expected
        sha256 = self._hash(info.key)
        if info.etag:
            if sha256 == expected and self._bucket.capabilities.metadata:
                self.markers.write(expected, info.key, if_absent=False, etag=info.etag)
            if len(self._read_back) >= MOST_REMEMBERED:
                self._read_back.clear()
            self._read_back[known] = sha256
        return sha256

    def _hash(self, key: str) -> str | None:
        """By reading the object back; None where that cannot be done, as it is archived."""
        try:
            return self._bucket.sha256(key)
        except ItemError as error:
            log.warning("%s", error.what)
            return None

    def _stays(self, info: ObjectInfo, sha256: str, told: Set[str]) -> bool:
        """Whether the job that stored an object will not delete it. It may be about to, so it is told first."""
        writer = self._writer(info, sha256)
        if writer in ("", self._job_id) or writer in told:
            return True
        self.markers.note_use(writer, self._job_id)
        if self._bucket.capabilities.metadata:
            self._used_jobs.add(writer)
        return self.markers.read(sha256) == info.key

    def _writer(self, info: ObjectInfo, sha256: str) -> str:
        """The job that stored an object, as far as the store says; "" where it was none of ours."""
        if not self._bucket.capabilities.metadata:
            return unknown_writer(sha256)
        job = info.job_id
        return job if _JOB_ID.fullmatch(job) else ""


class Content:
    """A content that a thread has in hand; see :meth:`Dedupe.content`."""

    def __init__(self, dedupe: Dedupe, sha256: str, size_bytes: int) -> None:
        self._dedupe = dedupe
        self._sha256 = sha256
        self._size_bytes = size_bytes
        self._named: str | None = None
        self._is_proven = False

    def holder(self) -> ObjectInfo | None:
        """The object that has it, by its key from the bucket's root. None where no marker names one that has it."""
        told = self._dedupe.used_jobs
        self._named = self._dedupe.markers.read(self._sha256)
        if not self._named:
            return None
        info = self._dedupe.proven(self._named, self._sha256, self._size_bytes, told)
        if info is None:
            log.warning("the marker of %s names %r, which has other bytes", self._sha256, self._named)
        self._is_proven = info is not None
        return info

    def mark(self, key: str) -> None:
        """Write its marker, unless a right one is there, now that it is stored and checked.

        Args:
            key: of the object that has it, below the destination.
        """
        if not self._is_proven:
            new_key = self._dedupe.prefix + key
            self._dedupe.markers.write(self._sha256, new_key, if_absent=self._named is None)
