"""The parts of one multipart upload on their way: each is sent where the server has it not, and its answer checked."""

from __future__ import annotations

import hashlib
import io
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest.errors import ChecksumMismatch
from ingest.stores.base import Transfer
from ingest.stores.parts import Part
from ingest.stores.source import changed
from ingest.stores.vendor_errors import BOTO_ERRORS, from_boto

if TYPE_CHECKING:
    from ingest.stores.s3 import S3Store

CHECK_EVERY_S = 0.2
"""How often the sending of a part asks whether to stop."""


class OtherBytes(Exception):
    """A part that was sent before is not what the file holds now: the upload has to begin anew."""


@dataclass(frozen=True, slots=True)
class PartDigests:
    """What is known of a file's parts from when it was hashed: the digest of each, and its name."""

    name: str
    of_parts: Sequence[bytes]

    def has(self, number: int, body: bytes) -> bool:
        """Whether these were the bytes of a part."""
        return hashlib.new(self.name, body, usedforsecurity=False).digest() == self.of_parts[number - 1]


@dataclass(frozen=True, slots=True)
class UploadUnderWay:
    """One upload under way: its ID, the parts that were there when it was taken up, and how the file is cut."""

    store: S3Store
    key: str
    path: Path
    upload_id: str
    there: dict[int, Part]
    transfer: Transfer
    size_bytes: int
    piece_bytes: int
    digests: PartDigests | None

    def known(self, number: int) -> Part | None:
        """A part that the server has, where that needs no look at the file."""
        part = self.there.get(number)
        if part is None or self.digests is None:
            return None
        has = part.has(self._bytes_of(number), self.digests.of_parts[number - 1], self.digests.name)
        return part if has else None

    def _bytes_of(self, number: int) -> int:
        return min(self.piece_bytes, self.size_bytes - (number - 1) * self.piece_bytes)

    def part(self, number: int, body: bytes) -> Part:
        """Send one part, unless the server has it.

        Raises:
            OtherBytes: the server has other bytes as this part, or its answer does not prove that it has not.
            SourceChanged: it is not what it was when its digest was taken.
        """
        if self.digests is None:
            return self._part(number, body)
        if len(body) != self._bytes_of(number):
            raise changed(self.path)
        try:
            return self._part(number, body)
        except ChecksumMismatch:
            if self.digests.has(number, body):
                raise
            raise changed(self.path) from None

    def _part(self, number: int, body: bytes) -> Part:
        part = self.there.get(number)
        if part is not None:
            if part.holds(body):
                return part
            raise OtherBytes
        self.transfer.check()
        self.transfer.pace(len(body))
        return self._sent(number, body)

    def _sent(self, number: int, body: bytes) -> Part:
        capabilities, clients = self.store.capabilities, self.store.clients
        cut = self.store.cut(self.size_bytes)
        digest = None if cut is None else self._digest(number, body, cut.digest)
        is_in_header = cut is not None and cut.digest == "sha256"
        extra: dict[str, Any] = {}
        if digest is not None and is_in_header:
            extra["ChecksumSHA256"] = b64encode(digest).decode()
        try:
            answer = (
                clients.boto_for_parts if is_in_header or capabilities.unsigned_body else clients.boto
            ).upload_part(
                **self.store.named(self.key),
                UploadId=self.upload_id,
                PartNumber=number,
                Body=_Body(body, self.transfer),
                **extra,
            )
        except BOTO_ERRORS as error:
            self.transfer.check()
            raise from_boto(error, self.store.place, self.key) from None
        sha256 = extra.get("ChecksumSHA256")
        part = Part(number, len(body), answer["ETag"], answer.get("ChecksumSHA256") or sha256)
        if cut is not None and digest is not None and not part.has(len(body), digest, cut.digest):
            raise ChecksumMismatch(f"{self.store.place}: part {number} of {self.key!r} is not what was sent")
        return part

    def _digest(self, number: int, body: bytes, name: str) -> bytes:
        """What the server's answer must prove of a part."""
        if self.digests is not None:
            return self.digests.of_parts[number - 1]
        return hashlib.new(name, body, usedforsecurity=False).digest()


class _Body(io.BytesIO):
    """A part's bytes, the sending of which stops soon after ``transfer.check`` says so."""

    def __init__(self, body: bytes, transfer: Transfer) -> None:
        super().__init__(body)
        self._transfer = transfer
        self._checked_at = time.monotonic()

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file, but raises what ``transfer.check`` raises."""
        if time.monotonic() - self._checked_at > CHECK_EVERY_S:
            self._transfer.check()
            self._checked_at = time.monotonic()
        return super().read(size)
