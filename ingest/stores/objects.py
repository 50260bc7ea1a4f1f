"""Object stores through ``obstore``: puts, reads and listings, by synchronous calls from many threads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import obstore

from ingest.config import Destination, UploadConfig
from ingest.config.key_template import MAX_KEY_BYTES
from ingest.digests import hashed, md5_of
from ingest.errors import ChecksumMismatch, KeyInvalid, ObjectExists, ObjectMissing, StoreError
from ingest.stores.base import (
    INTERNAL,
    Capabilities,
    Checksum,
    ObjectInfo,
    ObjectMeta,
    Store,
    Stored,
    Transfer,
    bare_etag,
)
from ingest.stores.retry import where_answered_later
from ingest.stores.source import hashed_pieces, read_whole, size_of
from ingest.stores.vendor_errors import OBSTORE_ERRORS, Place, from_obstore

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig
    from obstore.store import ObjectStore as Client

PIECE_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 5
SLOWEST_UPLINK_BYTES_PER_S = 125_000
NO_RETRIES: RetryConfig = {"max_retries": 0}
"""Retry is the wrapper's: it asks whether to stop while it waits."""

STORAGE_CLASS = "Storage-Class"
_STANDARD = frozenset(
    (
        "Content-Type",
        "Cache-Control",
        "Content-Disposition",
        "Content-Encoding",
        "Content-Language",
        STORAGE_CLASS,
    )
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
UNPROBED = Capabilities(if_absent=False, checksum=Checksum.READ_BACK, metadata=False, resumable=False)
"""What a store takes for granted before it was probed: nothing."""


def client_options(
    upload: UploadConfig, *, allow_http: bool = False, ca_certificates: bytes | None = None
) -> ClientConfig:
    """Options for obstore's HTTP client.

    A request may take as long as all bytes in flight need at 1 Mbit/s, at least 10 minutes, at most an hour.
    """
    timeout_s = min(max(upload.bytes_in_flight / SLOWEST_UPLINK_BYTES_PER_S, 600), 3600)
    options: ClientConfig = {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
        "timeout": timedelta(seconds=timeout_s),
        "pool_idle_timeout": timedelta(seconds=60),
        "pool_max_idle_per_host": str(upload.threads + 4),
    }
    if ca_certificates is not None:
        options["root_certificate"] = ca_certificates
    return options


class ObjectStore(Store):
    """Any store that obstore has a client for, with no more than all of them share.

    ``gs://`` and ``az://`` are this class as it is, and are unproven here: there was no such server to try
    them on. Answers are checked by reading back unless the destination's ``checksum`` is ``none``; large
    files go up through obstore's own multipart, which no other node can go on from.
    """

    def __init__(
        self,
        client: Client,
        destination: Destination,
        upload: UploadConfig,
        place: Place,
        capabilities: Capabilities | None = None,
    ) -> None:
        self.url = destination.url
        self.capabilities = capabilities or UNPROBED
        self.place = place
        self._client = client
        self._destination = destination
        self._upload = upload
        prefix = destination.url.partition("://")[2].partition("/")[2]
        self._prefix = prefix and f"{prefix}/"

    def check_key(self, key: str) -> None:
        """See :meth:`Store.check_key`. Control characters cannot be named here; S3 alone has another client."""
        self._check_length(key)
        if CONTROL.search(key):
            raise KeyInvalid(f"its key {key!r} has a control character, which {self.place} cannot hold")

    def _check_length(self, key: str) -> None:
        size_bytes = len(self._prefix.encode()) + len(key.encode())
        if size_bytes > MAX_KEY_BYTES:
            raise KeyInvalid(
                f"its key has {size_bytes} bytes with {self._prefix!r} before it; at most {MAX_KEY_BYTES} are allowed"
            )

    def probe(self) -> Capabilities:
        """See :meth:`Store.probe`."""
        from ingest.stores.probe import probe_objects

        self.go_by(probe_objects(self, self._destination.checksum))
        return self.capabilities

    def go_by(self, capabilities: Capabilities) -> None:
        """Take this for what the store honours, from now on."""
        self.capabilities = capabilities

    def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
        """See :meth:`Store.put`."""
        self.check_key(key)
        create = if_absent and self.capabilities.if_absent
        try:
            answer = obstore.put(
                self._client,
                key,
                body,
                use_multipart=False,
                attributes=self._attributes(key, meta),
                mode="create" if create else "overwrite",
            )
        except OBSTORE_ERRORS as error:
            raise from_obstore(error, self.place, key) from None
        return self._checked(key, body, meta, answer["e_tag"])

    def put_if_unchanged(self, key: str, body: bytes, meta: ObjectMeta, etag: str | None) -> None:
        """Store a small ``body`` in place of the object that had this ETag, or, for None, of none.

        Not every server looks at the condition: ask :meth:`minds_etags`. The answer is not checked.

        Raises:
            ObjectExists: another object is there.
        """
        self.check_key(key)
        try:
            obstore.put(
                self._client,
                key,
                body,
                use_multipart=False,
                attributes=self._attributes(key, meta),
                mode="create" if etag is None else {"e_tag": f'"{etag}"'},
            )
        except OBSTORE_ERRORS as error:
            raise from_obstore(error, self.place, key) from None

    @where_answered_later
    def minds_etags(self, key: str) -> bool:
        """Whether :meth:`put_if_unchanged` is refused where it should be. ``key`` is stored, and deleted again."""
        body = b"probe"
        meta = ObjectMeta(hashlib.sha256(body).hexdigest())
        try:
            etag = self.put(key, body, meta).etag
            if etag is None or not self._refuses(key, body, meta, "0" * 32):
                return False
            return not self._refuses(key, body, meta, etag) and self._refuses(key, body, meta, None)
        finally:
            self.delete([key])

    def _refuses(self, key: str, body: bytes, meta: ObjectMeta, etag: str | None) -> bool:
        try:
            self.put_if_unchanged(key, body, meta, etag)
        except ObjectExists:
            return True
        return False

    def _checked(self, key: str, body: bytes, meta: ObjectMeta, etag: str | None) -> Stored:
        checksum = self.capabilities.checksum
        if checksum is Checksum.MD5:
            if bare_etag(etag) != md5_of(body):  # it may be none: the bucket may encrypt since it was probed
                self.check_by_reading(key, len(body), meta)
        elif checksum is Checksum.READ_BACK:
            self.check_by_reading(key, len(body), meta)
        return Stored(key, len(body), bare_etag(etag))

    def sha256(self, key: str) -> str | None:
        """The SHA-256 of what is stored under a key, by reading it; None where there is nothing."""
        try:
            return hashed(self.read(key))[0]
        except ObjectMissing:
            return None

    def check_by_reading(self, key: str, size_bytes: int, meta: ObjectMeta) -> None:
        """Read the object and compare its size and SHA-256.

        Raises:
            ChecksumMismatch: they differ; the object is deleted.
        """
        if hashed(self.read(key)) != (meta.sha256, size_bytes):
            raise self.mismatch(key, "it reads back as other bytes than were sent")

    def mismatch(self, key: str, why: str) -> ChecksumMismatch:
        """The error for an object that is not what was sent. It goes, lest its metadata vouch for it."""
        with suppress(StoreError):
            self.delete([key])
        return ChecksumMismatch(f"{self.place}: {why} (key {key!r})")

    def put_file(
        self,
        key: str,
        path: Path,
        meta: ObjectMeta,
        *,
        if_absent: bool = False,
        transfer: Transfer | None = None,
    ) -> Stored:
        """See :meth:`Store.put_file`. Over the threshold ``if_absent`` is asked beforehand only."""
        self.check_key(key)
        transfer = transfer or Transfer()
        size_bytes = size_of(path)
        if size_bytes > self._upload.multipart_threshold_bytes:
            return self._put_large(key, path, size_bytes, meta, transfer, if_absent=if_absent)
        transfer.check()
        body = read_whole(path, meta)
        transfer.pace(len(body))
        stored = self.put(key, body, meta, if_absent=if_absent)
        transfer.sent(len(body))
        return stored

    def _put_large(
        self, key: str, path: Path, size_bytes: int, meta: ObjectMeta, transfer: Transfer, *, if_absent: bool
    ) -> Stored:
        if if_absent and self.stat(key) is not None:
            raise ObjectExists(f"{self.place}: there is an object already (key {key!r})")
        raised: list[Exception] = []
        try:
            answer = obstore.put(
                self._client,
                key,
                _noting(hashed_pieces(path, meta, PIECE_BYTES, transfer.check), transfer, raised),
                attributes=self._attributes(key, meta),
                chunk_size=self._upload.part_size_bytes,
                max_concurrency=4,
            )
        except OBSTORE_ERRORS as error:
            if raised:
                raise raised[0] from None
            raise from_obstore(error, self.place, key) from None
        if self.capabilities.checksum is not Checksum.NONE:
            self.check_by_reading(key, size_bytes, meta)
        transfer.sent(size_bytes)
        return Stored(key, size_bytes, bare_etag(answer["e_tag"]))

    def _attributes(self, key: str, meta: ObjectMeta) -> dict[str, str]:
        attributes = {"Content-Type": meta.content_type, **meta.metadata, "sha256": meta.sha256}
        storage_class = self.storage_class_of(key)
        return attributes if storage_class is None else {**attributes, STORAGE_CLASS: storage_class}

    def storage_class_of(self, key: str) -> str | None:
        """The class to store an object in, where not the bucket's own: manifests must be readable, and data may be
        archived.
        """
        return None if key.startswith(INTERNAL) else self._destination.storage_class

    def try_storage_class(self, key: str) -> None:
        """Store a small object in the class that the destination names, if it names one.

        Raises:
            StoreError: the store does not know it.
        """
        storage_class = self._destination.storage_class
        if storage_class is not None:
            attributes = {STORAGE_CLASS: storage_class}
            try:
                obstore.put(self._client, key, b"probe", use_multipart=False, attributes=attributes)
            except OBSTORE_ERRORS as error:
                raise from_obstore(error, self.place) from None

    def stat(self, key: str) -> ObjectInfo | None:
        """See :meth:`Store.stat`."""
        try:
            answer = obstore.get(self._client, key, options={"head": True})
        except FileNotFoundError:
            return None
        except OBSTORE_ERRORS as error:
            raise from_obstore(error, self.place, key, is_head=True) from None
        metadata = {name.lower(): value for name, value in answer.attributes.items() if name not in _STANDARD}
        sha256 = metadata.pop("sha256", None)
        return ObjectInfo(key, answer.meta["size"], bare_etag(answer.meta["e_tag"]), sha256, metadata)

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Store.list`. Objects that others stored under names obstore cannot name make it fail."""
        folder = prefix.rpartition("/")[0]
        try:
            for page in obstore.list(self._client, folder or None, offset=after or None, chunk_size=1000):
                for found in page:
                    if found["path"].startswith(prefix) and listed(found["path"], prefix):
                        yield ObjectInfo(
                            found["path"],
                            found["size"],
                            bare_etag(found["e_tag"]),
                            modified_s=found["last_modified"].timestamp(),
                        )
        except OBSTORE_ERRORS as error:
            raise from_obstore(error, self.place) from None

    def read(self, key: str) -> Iterator[bytes]:
        """See :meth:`Store.read`."""
        try:
            for piece in obstore.get(self._client, key).stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)
        except OBSTORE_ERRORS as error:
            raise from_obstore(error, self.place, key) from None

    def delete(self, keys: Iterable[str]) -> None:
        """See :meth:`Store.delete`."""
        remaining = iter(keys)
        while some := [*islice(remaining, 1000)]:
            try:
                obstore.delete(self._client, some)
            except FileNotFoundError:
                self._delete_singly(some)
            except OBSTORE_ERRORS as error:
                raise from_obstore(error, self.place) from None

    def _delete_singly(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                obstore.delete(self._client, key)
            except OBSTORE_ERRORS as error:
                ours = from_obstore(error, self.place, key)
                if not isinstance(ours, ObjectMissing):
                    raise ours from None


def listed(key: str, prefix: str) -> bool:
    """Whether a key is listed under ``prefix``: the manifests' folder only where it is asked for."""
    return not key.startswith(INTERNAL) or prefix.startswith(INTERNAL)


def _noting(pieces: Iterator[bytes], transfer: Transfer, raised: list[Exception]) -> Iterator[bytes]:
    """The pieces; what they raise is noted, for obstore would make it an error of its own."""
    try:
        for piece in pieces:
            transfer.pace(len(piece))
            yield piece
    except Exception as error:
        raised.append(error)
        raise
