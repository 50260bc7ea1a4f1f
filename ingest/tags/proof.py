"""Whether a file on a tag may be erased: only where two other copies are read, whole, and found to have its bytes."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ingest.conversions import CONVERSIONS
from ingest.digests import hashed, hashed_on_disk
from ingest.errors import ItemError, ObjectMissing, SourceUnreadable
from ingest.items import FileItem
from ingest.ssh.remote_files import RemoteFiles
from ingest.stores.base import ObjectInfo, Store
from ingest.stores.local import is_object
from ingest.tags.evidence import Offload, Row

S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Proof:
    """That a file may be erased, and what was looked at.

    Attributes:
        file: as it was on the tag.
        sha256: of its bytes, there, in the backup copy, and in the object (decoded).
        job_id: the offload whose manifest says so.
        backup, backup_state: the backup copy, and what tells whether it was touched since.
        stored: the object, as the store knew it.
    """

    file: FileItem
    sha256: str
    job_id: str
    row: Row
    backup: Path
    backup_state: tuple[int, ...]
    stored: ObjectInfo | None
    bucket: Store


@dataclass(frozen=True, slots=True)
class Left:
    """A file that stays, and why."""

    file: FileItem
    reason: str


class _No(Exception):
    """Why a file is not proven to be stored."""


class Prover:
    """Looks for proofs for the files of one tag.

    Args:
        files: the files on the tag.
        offloads: what its offloads say, the latest first.
        scratch_dir: where copies of objects lie for a moment.
    """

    def __init__(self, files: RemoteFiles, offloads: Sequence[Offload], scratch_dir: Path) -> None:
        self._files = files
        self._offloads = offloads
        self._scratch_dir = scratch_dir

    def proof(self, file: FileItem) -> Proof | Left:
        """The proof that a file, as it is listed now, may be erased; or why it stays. Reads only; may be repeated.

        Raises:
            SourceAway: the tag is out of reach.
            StoreError: the destination is out of reach.
        """
        reasons = []
        for offload in self._offloads:
            try:
                return self._by(offload, file)
            except _No as error:
                reasons.append(str(error))
            except ItemError as error:
                return Left(file, error.what)
        named = [reason for reason in reasons if not reason.startswith(_UNKNOWN)]
        return Left(file, (named or reasons)[0])

    def _by(self, offload: Offload, file: FileItem) -> Proof:
        if offload.trouble:
            raise _No(offload.trouble)
        if file.path in offload.twice:
            raise _No(f"the manifest of job {offload.job_id} says several things of it")
        row = offload.rows.get(file.path)
        if row is None or offload.bucket is None:
            raise _No(f"{_UNKNOWN} job {offload.job_id}: it is new, or was not stored")
        _as_listed(file, row)
        backup = Path(row.backup)
        backup_state = _backup_proves(row, backup)
        stored = self._object_proves(row, offload.bucket)
        if is_object(backup, offload.bucket, row.key):
            raise _No(f"its backup copy {backup} is the stored object itself: there is no second copy")
        if self._files.sha256(file.path) != row.source_sha256:
            raise _No("its content on the tag is not what was stored: it was written to since")
        return Proof(
            file, row.source_sha256, offload.job_id, row, backup, backup_state, stored, offload.bucket
        )

    def _object_proves(self, row: Row, bucket: Store) -> ObjectInfo | None:
        """Read the object back: it is what was stored, and decodes to the file's bytes."""
        with TemporaryDirectory(dir=self._scratch_dir, prefix="proof-") as folder:
            copy = Path(folder, "object")
            sha256, size_bytes = hashlib.sha256(), 0
            try:
                info = bucket.stat(row.key)
                with copy.open("wb") as file:
                    for piece in bucket.read(row.key):
                        sha256.update(piece)
                        size_bytes += file.write(piece)
            except ObjectMissing:
                raise _No(f"its object {row.key!r} is missing from the destination") from None
            if size_bytes != row.stored_bytes:
                raise _No(f"its object {row.key!r} has {size_bytes} bytes; {row.stored_bytes} were stored")
            if sha256.hexdigest() != row.sha256:
                raise _No(f"its object {row.key!r} has other content than was stored")
            _decodes(row, copy)
        return info

    def unchanged(self, proof: Proof) -> str:
        """Why a file may not be erased any more after it was proven; "" where all is as it was.

        The file is hashed again; of its copies it is asked whether they were touched.

        Raises:
            SourceAway, StoreError: as :meth:`proof`.
        """
        try:
            self._ensure_unchanged(proof)
        except _No as error:
            return str(error)
        except ItemError as error:
            return error.what
        return ""

    def _ensure_unchanged(self, proof: Proof) -> None:
        if _state(proof.backup) != proof.backup_state:
            raise _No(f"its backup copy {proof.backup} was touched since it was proven")
        stored = proof.bucket.stat(proof.row.key)
        if stored is None or _touched(stored, proof.stored):
            raise _No(f"its object {proof.row.key!r} was touched since it was proven")
        if self._files.look(proof.file.path) != proof.file:
            raise _No("it was written to since it was proven")
        if self._files.sha256(proof.file.path) != proof.sha256:
            raise _No("its content changed since it was proven")
        if self._files.look(proof.file.path) != proof.file:
            raise _No("it was written to while it was looked at")


_UNKNOWN = "it is not in the manifest of"


def _as_listed(file: FileItem, row: Row) -> None:
    if len(row.source_sha256) != 64:
        raise _No("the manifest does not say what its content was")
    if row.conversion not in CONVERSIONS:
        raise _No(f"it was stored in a form that is not known here: {row.conversion!r}")
    if file.size_bytes is None or file.size_bytes != row.size_bytes:
        raise _No(f"it has {file.size_bytes} bytes on the tag; {row.size_bytes} were stored")
    if file.mtime_ns is None or row.mtime_ns is None or file.mtime_ns // S != row.mtime_ns // S:
        raise _No(
            "its time on the tag is another than when it was stored: it was written since, or a clock jumped"
        )


def _decodes(row: Row, copy: Path) -> None:
    if row.conversion == "as_is":
        if (row.sha256, row.stored_bytes) != (row.source_sha256, row.size_bytes):
            raise _No(f"its object {row.key!r} has not the content of the file")
        return
    try:
        sha256, size_bytes = hashed(CONVERSIONS[row.conversion].decode(copy))
    except SourceUnreadable as error:
        raise _No(f"its object {row.key!r} cannot be decoded: {error.what}") from None
    if (sha256, size_bytes) != (row.source_sha256, row.size_bytes):
        raise _No(f"its object {row.key!r} does not decode to the bytes of the file")


def _backup_proves(row: Row, backup: Path) -> tuple[int, ...]:
    """Read the backup copy: it has the file's bytes. What tells later whether it was touched."""
    if not row.backup or not backup.is_absolute():
        raise _No("the manifest names no backup copy of it")
    before = _state(backup)
    try:
        with backup.open("rb") as file:
            sha256, size_bytes = hashed_on_disk(file)
    except OSError as error:
        raise _No(f"its backup copy {backup} cannot be read: {error.strerror}") from None
    if size_bytes != row.size_bytes:
        raise _No(f"its backup copy {backup} has {size_bytes} bytes, not {row.size_bytes}")
    if sha256 != row.source_sha256:
        raise _No(f"its backup copy {backup} has other content")
    if _state(backup) != before:
        raise _No(f"its backup copy {backup} is being written to")
    return before


def _state(path: Path) -> tuple[int, ...]:
    try:
        info = path.lstat()
    except OSError as error:
        raise _No(f"its backup copy {path} is not there: {error.strerror}") from None
    if not stat.S_ISREG(info.st_mode):
        raise _No(f"its backup copy {path} is no regular file")
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _touched(now: ObjectInfo, before: ObjectInfo | None) -> bool:
    return before is None or (now.size_bytes, now.etag) != (before.size_bytes, before.etag)
