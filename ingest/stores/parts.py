"""The parts of a multipart upload: how a file is cut, and what a server knows of them."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingest.errors import ObjectMissing
from ingest.stores.vendor_errors import BOTO_ERRORS, from_boto

if TYPE_CHECKING:
    from ingest.stores.s3 import S3Store

MAX_PARTS = 10_000
_MIB = 1 << 20


def part_size(size_bytes: int, wanted_bytes: int) -> int:
    """Bytes in each part but the last: as wanted, or what makes at most 10,000 parts, in whole MiB.

    It depends on nothing else, so that every node cuts a file alike.
    """
    least = -(-size_bytes // MAX_PARTS)
    return wanted_bytes if wanted_bytes >= least else -(-least // _MIB) * _MIB


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the server has, as completing takes it."""

    number: int
    size_bytes: int
    etag: str
    sha256: str | None

    def to_boto(self) -> dict[str, Any]:
        """As boto3 takes it."""
        named: dict[str, Any] = {"PartNumber": self.number, "ETag": self.etag}
        return named if self.sha256 is None else {**named, "ChecksumSHA256": self.sha256}

    def holds(self, body: bytes) -> bool:
        """Whether the server's answer proves that these are the part's bytes."""
        if self.size_bytes != len(body):
            return False
        if self.sha256 is not None:
            return self.sha256 == b64_sha256(body)
        return self.has_md5(hashlib.md5(body, usedforsecurity=False).digest())

    def has(self, size_bytes: int, digest: bytes, name: str) -> bool:
        """Whether the server's answer proves that its bytes have this digest, of this name."""
        if self.size_bytes != size_bytes:
            return False
        return self.has_md5(digest) if name == "md5" else self.sha256 == b64encode(digest).decode()

    def has_md5(self, digest: bytes) -> bool:
        """Whether its ETag is this MD5."""
        return self.etag.strip('"') == digest.hex()

    @property
    def md5(self) -> bytes:
        """Its ETag, where that is its MD5."""
        return bytes.fromhex(self.etag.strip('"'))


def list_parts(store: S3Store, key: str, upload_id: str) -> Iterator[Part]:
    """The parts that the server has of an upload.

    Raises:
        ObjectMissing: there is no such upload (any more).
    """
    try:
        for page in store.clients.boto.get_paginator("list_parts").paginate(
            **store.named(key), UploadId=upload_id
        ):
            for part in page.get("Parts", ()):
                yield Part(part["PartNumber"], part["Size"], part["ETag"], part.get("ChecksumSHA256"))
    except BOTO_ERRORS as error:
        raise from_boto(error, store.place, key) from None


def abort_uploads(store: S3Store, key: str, upload_id: str) -> None:
    """Abort one upload, or all for exactly this key where ``upload_id`` is ""; none is no error."""
    where = store.named(key)
    try:
        for found in [upload_id] if upload_id else _uploads_of(store, where):
            try:
                store.clients.boto.abort_multipart_upload(**where, UploadId=found)
            except BOTO_ERRORS as error:
                if not isinstance(from_boto(error, store.place), ObjectMissing):
                    raise
    except BOTO_ERRORS as error:
        raise from_boto(error, store.place, key) from None


def _uploads_of(store: S3Store, where: dict[str, Any]) -> list[str]:
    pages = store.clients.boto.get_paginator("list_multipart_uploads").paginate(
        Bucket=where["Bucket"], Prefix=where["Key"]
    )
    return [
        found["UploadId"]
        for page in pages
        for found in page.get("Uploads", ())
        if found["Key"] == where["Key"]
    ]


def b64_sha256(body: bytes) -> str:
    return b64encode(hashlib.sha256(body).digest()).decode()
