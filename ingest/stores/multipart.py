"""Large files to S3 in parts, which any node goes on from where another stopped.

The way: record that an upload begins, begin it, record its ID; send the parts that the server does not
have yet, each part's answer checked; complete only where all bytes are those that were hashed before; check what
came of it; forget the record. Broken off at any point, nothing is visible under the key, and the record says what to
go on from or to abort.

That the bytes are the same, the server's own answers prove where each part's digest is known from before: it is what
the answer has to say. Then nothing is hashed here again, and what the server has is not even read. Elsewhere all
bytes are hashed in order on the way.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from ingest.config import UploadConfig
from ingest.digests import etag_of_parts
from ingest.errors import ChecksumMismatch, ItemError, ObjectExists, ObjectMissing, Stopped, StoreError
from ingest.stores.base import Checksum, Cut, ObjectMeta, Stored, Transfer
from ingest.stores.budget import BytesBudget
from ingest.stores.part_sending import OtherBytes, PartDigests, UploadUnderWay
from ingest.stores.parts import Part, list_parts, part_size
from ingest.stores.proven import has_its_bytes
from ingest.stores.source import changed, ensure_unchanged, opened, read_piece
from ingest.stores.vendor_errors import BOTO_ERRORS, from_boto

if TYPE_CHECKING:
    from ingest.stores.s3 import S3Store

PARTS_AT_ONCE = 4
"""Parts of one file under way."""
WAIT_S = 0.2
"""How often a wait asks whether to stop."""


class Multipart:
    """The multipart uploads of one store. Its threads and the bytes it holds are shared by all its files."""

    def __init__(self, store: S3Store, upload: UploadConfig) -> None:
        self._store = store
        self._part_bytes = upload.part_size_bytes
        at_once = max(2, min(upload.bytes_in_flight // upload.part_size_bytes, upload.threads))
        self._room = BytesBudget(upload.bytes_in_flight)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="ingest-part")

    def cut(self, size_bytes: int) -> Cut | None:
        """See :meth:`Store.cut`."""
        digest: Literal["md5", "sha256"]
        match self._store.capabilities.checksum:
            case Checksum.MD5:
                digest = "md5"
            case Checksum.SHA256:
                digest = "sha256"
            case _:
                return None
        return Cut(part_size(size_bytes, self._part_bytes), digest)

    def put(
        self, key: str, path: Path, size_bytes: int, meta: ObjectMeta, transfer: Transfer, *, if_absent: bool
    ) -> Stored:
        """See :meth:`Store.put_file`. Without ``transfer.records`` an upload that fails is aborted."""
        upload_id, there = self._resumed(key, transfer)
        if upload_id is not None and there is None:
            done = self._done_before(key, size_bytes, meta, transfer)
            if done is not None:
                return done
        if upload_id is not None and there is not None:
            if there:
                with suppress(OtherBytes):
                    return self._go_on(
                        upload_id, there, key, path, size_bytes, meta, transfer, if_absent=if_absent
                    )
            # Its parts, or without any the SHA-256 in its metadata, may be of another state of the file.
            self._store.abort_upload(key, upload_id)
        upload_id = self._begun(key, meta, transfer)
        return self._go_on(upload_id, {}, key, path, size_bytes, meta, transfer, if_absent=if_absent)

    def _go_on(
        self,
        upload_id: str,
        there: dict[int, Part],
        key: str,
        path: Path,
        size_bytes: int,
        meta: ObjectMeta,
        transfer: Transfer,
        *,
        if_absent: bool,
    ) -> Stored:
        cut = self.cut(size_bytes)
        piece_bytes = cut.part_bytes if cut else part_size(size_bytes, self._part_bytes)
        digests = (
            None if cut is None or transfer.digests is None else PartDigests(cut.digest, transfer.digests)
        )
        if digests is not None and len(digests.of_parts) != -(-size_bytes // piece_bytes):
            raise changed(path)
        upload = UploadUnderWay(
            self._store, key, path, upload_id, there, transfer, size_bytes, piece_bytes, digests
        )
        resumable = transfer.records is not None and self._store.capabilities.resumable
        try:
            parts = self._send(upload, meta)
            return self._complete(upload, parts, size_bytes, meta, if_absent=if_absent)
        except OtherBytes:
            raise
        except BaseException as error:
            if not (resumable and _may_go_on(error)):
                with suppress(StoreError):
                    self._store.abort_upload(key, upload_id)
                    _forget(key, transfer)
            raise

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _resumed(self, key: str, transfer: Transfer) -> tuple[str | None, dict[int, Part] | None]:
        """The recorded upload and its parts: no ID where none is recorded, no parts where it is over."""
        upload_id = None if transfer.records is None else transfer.records.upload_id(key)
        if upload_id is None:
            return None, None
        if upload_id == "" or not self._store.capabilities.resumable:
            self._store.abort_upload(key, upload_id)  # its ID was lost with a node, or is of no use
            return None, None
        try:
            return upload_id, {part.number: part for part in list_parts(self._store, key, upload_id)}
        except ObjectMissing:
            return upload_id, None

    def _done_before(self, key: str, size_bytes: int, meta: ObjectMeta, transfer: Transfer) -> Stored | None:
        """What a completed upload left, where only its answer was lost."""
        found = self._store.stat(key)
        if found is None or (found.size_bytes, found.sha256) != (size_bytes, meta.sha256):
            return None
        checksum = self._store.capabilities.checksum
        if not has_its_bytes(found, size_bytes, checksum, self._store.sha256, parts=transfer.digests):
            return None
        _forget(key, transfer)
        transfer.sent(size_bytes)
        return Stored(key, size_bytes, found.etag)

    def _begun(self, key: str, meta: ObjectMeta, transfer: Transfer) -> str:
        if transfer.records is not None:
            transfer.records.record_upload(key, "")
        extra: Any = (
            {"ChecksumAlgorithm": "SHA256"} if self._store.capabilities.checksum is Checksum.SHA256 else {}
        )
        try:
            answer = self._store.clients.boto.create_multipart_upload(
                **self._store.named(key), **self._store.headers(key, meta), **extra
            )
        except BOTO_ERRORS as error:
            raise from_boto(error, self._store.place, key) from None
        upload_id = answer["UploadId"]
        if transfer.records is not None:
            transfer.records.record_upload(key, upload_id)
        return upload_id

    def _send(self, upload: UploadUnderWay, meta: ObjectMeta) -> list[Part]:
        """Send what is missing, in order, a few parts at once; the bytes are hashed where no digests are known."""
        sha256 = None if upload.digests else hashlib.sha256()
        path = upload.path
        waiting: deque[Future[Part]] = deque()
        parts: list[Part] = []
        check = upload.transfer.check
        try:
            with opened(path) as file:
                for number in range(1, -(-upload.size_bytes // upload.piece_bytes) + 1):
                    while len(waiting) >= PARTS_AT_ONCE:
                        parts.append(_answer(waiting, upload.transfer))
                    known = upload.known(number)
                    if known is not None:
                        file.seek(known.size_bytes, os.SEEK_CUR)
                        waiting.append(_over(known))
                        continue
                    body, future = self._started(upload, number, file)
                    waiting.append(future)
                    if sha256 is not None:
                        sha256.update(body)
                grown = read_piece(file, 1, path)
            while waiting:
                parts.append(_answer(waiting, upload.transfer))
        except Stopped:
            _cancel(waiting)  # and do not wait: what is under way may take minutes on a slow line
            raise
        except BaseException:
            _cancel(waiting)
            _settle(waiting)
            raise
        check()
        if grown or sha256 is not None:
            ensure_unchanged("" if grown or sha256 is None else sha256.hexdigest(), meta, path)
        return parts

    def _started(self, upload: UploadUnderWay, number: int, file: BinaryIO) -> tuple[bytes, Future[Part]]:
        """Read a part, as soon as there is room for it, and let a thread send it."""
        piece_bytes = upload.piece_bytes
        upload.transfer.check()
        self._room.acquire(piece_bytes, upload.transfer.check)
        try:
            body = read_piece(file, piece_bytes, upload.path)
            future = self._threads.submit(upload.part, number, body)
        except BaseException:
            self._room.release(piece_bytes)
            raise
        future.add_done_callback(lambda _: self._room.release(piece_bytes))
        return body, future

    def _complete(
        self, upload: UploadUnderWay, parts: list[Part], size_bytes: int, meta: ObjectMeta, *, if_absent: bool
    ) -> Stored:
        extra: dict[str, Any] = (
            {"IfNoneMatch": "*"} if if_absent and self._store.capabilities.if_absent else {}
        )
        key, store = upload.key, self._store
        listed: Any = {"Parts": [part.to_boto() for part in parts]}
        try:
            store.clients.boto.complete_multipart_upload(
                **store.named(key), UploadId=upload.upload_id, MultipartUpload=listed, **extra
            )
        except BOTO_ERRORS as error:
            raise from_boto(error, store.place, key) from None
        stored = self._checked(key, parts, size_bytes, meta)
        _forget(key, upload.transfer)
        return stored

    def _checked(self, key: str, parts: list[Part], size_bytes: int, meta: ObjectMeta) -> Stored:
        found = self._store.stat(key)
        if found is None or found.size_bytes != size_bytes:
            raise self._store.mismatch(key, f"it has not the {size_bytes} bytes that were sent")
        if self._store.capabilities.metadata and found.sha256 not in (None, meta.sha256):
            # It was begun when the file was another, and what was sent since happened to fit the parts that were there.
            raise self._store.mismatch(key, "the SHA-256 in its metadata is not that of what was sent")
        checksum, etag = self._store.capabilities.checksum, found.etag or ""
        if checksum is Checksum.MD5 and "-" in etag and etag != etag_of_parts([part.md5 for part in parts]):
            raise self._store.mismatch(key, "its ETag is not that of its parts")
        if checksum is Checksum.READ_BACK:
            self._store.check_by_reading(key, size_bytes, meta)
        return Stored(key, size_bytes, found.etag)


def _answer(waiting: deque[Future[Part]], transfer: Transfer) -> Part:
    while True:
        transfer.check()
        with suppress(FutureTimeout):
            part = waiting[0].result(timeout=WAIT_S)
            waiting.popleft()
            transfer.sent(part.size_bytes)
            return part


def _over(part: Part) -> Future[Part]:
    """A part that need not be sent."""
    future: Future[Part] = Future()
    future.set_result(part)
    return future


def _cancel(waiting: deque[Future[Part]]) -> None:
    for future in waiting:
        future.cancel()


def _settle(waiting: deque[Future[Part]]) -> None:
    """Wait for the parts under way: what is still being sent must not arrive after an abort."""
    for future in waiting:
        if not future.cancelled():
            future.exception()


def _may_go_on(error: BaseException) -> bool:
    """Whether an upload that failed so may be taken up again: not where the file or a part is wrong."""
    return type(error) is not StoreError and not isinstance(
        error, ItemError | ObjectExists | ChecksumMismatch
    )


def _forget(key: str, transfer: Transfer) -> None:
    if transfer.records is not None:
        transfer.records.forget_upload(key)
