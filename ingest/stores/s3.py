"""``s3://``: AWS and what speaks its language. obstore for the hot path, boto3 for what it alone can do."""

from __future__ import annotations

import builtins
import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest.config import Destination, UploadConfig
from ingest.errors import ObjectMissing, StoreError, StoreUnreachable
from ingest.stores.base import (
    Capabilities,
    Checksum,
    Cut,
    ObjectInfo,
    ObjectMeta,
    Stored,
    Transfer,
    bare_etag,
)
from ingest.stores.multipart import Multipart
from ingest.stores.objects import CONTROL, PIECE_BYTES, UNPROBED, ObjectStore, listed
from ingest.stores.parts import abort_uploads
from ingest.stores.s3_clients import S3Clients
from ingest.stores.vendor_errors import BOTO_ERRORS, from_boto

if TYPE_CHECKING:
    from obstore.store import S3Store as Client

_PLAIN = re.compile(r"[A-Za-z0-9 !$&'()+,\-./:;=@_]*")
"""Names that obstore hands to the server as they are; in others it writes some characters as ``%`` and two digits."""
BUSY = (429, 503)
"""The answers of a server that may say for how long it wants to be left alone."""


def _client(clients: S3Clients, capabilities: Capabilities) -> Client:
    return clients.obstore(
        sha256=capabilities.checksum is Checksum.SHA256, unsigned_body=capabilities.unsigned_body
    )


class S3Store(ObjectStore):
    """An S3 bucket, or a prefix in one.

    Keys with control characters, which obstore cannot name, and listings, in which others' objects may
    have such names, go through boto3.
    """

    def __init__(
        self,
        clients: S3Clients,
        destination: Destination,
        upload: UploadConfig,
        capabilities: Capabilities | None = None,
    ) -> None:
        super().__init__(
            _client(clients, capabilities or UNPROBED), destination, upload, clients.place, capabilities
        )
        self.clients = clients
        self.multipart = Multipart(self, upload)
        self._is_busy = False

    def probe(self) -> Capabilities:
        """See :meth:`Store.probe`."""
        from ingest.stores.probe import probe_s3

        self.go_by(probe_s3(self, self._destination.checksum))
        return self.capabilities

    def go_by(self, capabilities: Capabilities) -> None:
        """See :meth:`ObjectStore.go_by`."""
        super().go_by(capabilities)
        self._client = _client(self.clients, capabilities)

    def named(self, key: str) -> dict[str, Any]:
        """Bucket and full key, as boto3 takes them."""
        prefix = self.clients.prefix
        return {"Bucket": self.clients.bucket, "Key": f"{prefix}/{key}" if prefix else key}

    def check_key(self, key: str) -> None:
        """See :meth:`Store.check_key`."""
        self._check_length(key)

    def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
        """See :meth:`Store.put`."""
        self.check_key(key)
        if not key.isprintable():
            return self._put_through_boto(key, body, meta, if_absent=if_absent)
        if self._is_busy:  # boto3's errors tell for how long (Retry-After); obstore's do not
            stored = self._put_through_boto(key, body, meta, if_absent=if_absent)
            self._is_busy = False
            return stored
        try:
            return super().put(key, body, meta, if_absent=if_absent)
        except StoreUnreachable as error:
            self._is_busy = self._is_busy or error.status in BUSY
            raise

    def _put_through_boto(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool) -> Stored:
        extra: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent and self.capabilities.if_absent else {}
        if self.capabilities.checksum is Checksum.SHA256:
            extra["ChecksumSHA256"] = b64encode(hashlib.sha256(body).digest()).decode()
        try:
            answer = self.clients.boto.put_object(
                **self.named(key), **self.headers(key, meta), **extra, Body=body
            )
        except BOTO_ERRORS as error:
            raise from_boto(error, self.place, key) from None
        return self._checked(key, body, meta, answer.get("ETag"))

    def headers(self, key: str, meta: ObjectMeta) -> dict[str, Any]:
        """What is stored with an object, as boto3 takes it."""
        headers: dict[str, Any] = {
            "ContentType": meta.content_type,
            "Metadata": {**meta.metadata, "sha256": meta.sha256},
        }
        storage_class = self.storage_class_of(key)
        return headers if storage_class is None else {**headers, "StorageClass": storage_class}

    def _put_large(
        self, key: str, path: Path, size_bytes: int, meta: ObjectMeta, transfer: Transfer, *, if_absent: bool
    ) -> Stored:
        return self.multipart.put(key, path, size_bytes, meta, transfer, if_absent=if_absent)

    def cut(self, size_bytes: int) -> Cut | None:
        """See :meth:`Store.cut`."""
        return self.multipart.cut(size_bytes)

    def stat(self, key: str) -> ObjectInfo | None:
        """See :meth:`Store.stat`."""
        if key.isprintable():
            return super().stat(key)
        try:
            answer = self.clients.boto.head_object(**self.named(key))
        except BOTO_ERRORS as error:
            ours = from_boto(error, self.place, key, is_head=True)
            if isinstance(ours, ObjectMissing):
                return None
            raise ours from None
        metadata = {name.lower(): value for name, value in answer["Metadata"].items()}
        sha256 = metadata.pop("sha256", None)
        return ObjectInfo(key, answer["ContentLength"], bare_etag(answer["ETag"]), sha256, metadata)

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Store.list`.

        Raises:
            StoreError: the server lists out of order, so that nothing can be said of what is missing.
        """
        where = self.named(prefix)
        skipped = len(where["Key"]) - len(prefix)
        query: dict[str, Any] = {"Bucket": where["Bucket"], "Prefix": where["Key"]}
        if after:  # a server cannot repeat control characters in XML: begin before, and pass over the rest
            query["StartAfter"] = self.named(CONTROL.split(after, maxsplit=1)[0])["Key"]
        last = after or ""
        for found in self._pages(query):
            key = found["Key"][skipped:]
            if after and key <= after:
                continue
            if key <= last:
                raise StoreError(
                    f"{self.place}: the server lists {key!r} after {last!r}, which is out of order"
                )
            last = key
            if listed(key, prefix):
                modified_s = found["LastModified"].timestamp()
                yield ObjectInfo(key, found["Size"], bare_etag(found["ETag"]), modified_s=modified_s)

    def first_listed(self, prefix: str, after: str | None, limit: int) -> builtins.list[ObjectInfo]:
        """See :meth:`Store.first_listed`. By obstore, which reads a page in a tenth of boto3's time, where it can."""
        if prefix.endswith("/") == bool(prefix) and _is_plain(prefix) and _is_plain(after or ""):
            with suppress(StoreError):
                page = [*islice(ObjectStore.list(self, prefix, after=after), limit)]
                if all(one.key < other.key for one, other in pairwise(page)):
                    return page
        return super().first_listed(prefix, after, limit)

    def _pages(self, query: dict[str, Any]) -> Iterator[Any]:
        try:
            for page in self.clients.boto.get_paginator("list_objects_v2").paginate(**query):
                yield from page.get("Contents", ())
        except BOTO_ERRORS as error:
            raise from_boto(error, self.place) from None

    def read(self, key: str) -> Iterator[bytes]:
        """See :meth:`Store.read`."""
        if key.isprintable():
            yield from super().read(key)
            return
        try:
            body = self.clients.boto.get_object(**self.named(key))["Body"]
            with body:
                yield from body.iter_chunks(PIECE_BYTES)
        except BOTO_ERRORS as error:
            raise from_boto(error, self.place, key) from None

    def delete(self, keys: Iterable[str]) -> None:
        """See :meth:`Store.delete`."""
        plain: list[str] = []
        for key in keys:
            if key.isprintable():
                plain.append(key)
                continue
            try:
                self.clients.boto.delete_object(**self.named(key))
            except BOTO_ERRORS as error:
                raise from_boto(error, self.place, key) from None
        super().delete(plain)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """See :meth:`Store.abort_upload`."""
        abort_uploads(self, key, upload_id)

    def renew_credentials(self) -> bool:
        """See :meth:`Store.renew_credentials`."""
        if not self.clients.renew_credentials():
            return False
        self._client = _client(self.clients, self.capabilities)
        return True

    def close(self) -> None:
        """See :meth:`Store.close`."""
        self.multipart.close()
        self.clients.close()


def _is_plain(name: str) -> bool:
    """Whether obstore takes a place in a listing as it is; a folder ends with its slash."""
    segments = name.removesuffix("/").split("/")
    return not name or (_PLAIN.fullmatch(name) is not None and not {"", ".", ".."} & set(segments))
