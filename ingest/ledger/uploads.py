"""The multipart uploads of a job that are not finished, so that any node goes on with them, or aborts them."""

from __future__ import annotations

from typing import cast

from ingest.ledger.keys import JobKeys
from ingest.redis_client import redis_errors


class UnfinishedUploads:
    """A job's :class:`ingest.stores.base.UploadRecords`. Every method may be repeated."""

    def __init__(self, job: JobKeys) -> None:
        self._job = job
        self._key = job.key("uploads")

    def upload_id(self, key: str) -> str | None:
        """See :class:`ingest.stores.base.UploadRecords`."""
        with redis_errors(self._job.url):
            found = cast("bytes | None", self._job.client.hget(self._key, key))
        return None if found is None else found.decode()

    def record_upload(self, key: str, upload_id: str) -> None:
        """See :class:`ingest.stores.base.UploadRecords`."""
        with redis_errors(self._job.url):
            self._job.client.hset(self._key, key, upload_id)

    def forget_upload(self, key: str) -> None:
        """See :class:`ingest.stores.base.UploadRecords`."""
        with redis_errors(self._job.url):
            self._job.client.hdel(self._key, key)

    def all(self) -> dict[str, str]:
        """Key → ID of every multipart upload that was begun and neither completed nor aborted."""
        with redis_errors(self._job.url):
            found = cast("dict[bytes, bytes]", self._job.client.hgetall(self._key))
        return {key.decode(): upload_id.decode() for key, upload_id in found.items()}
