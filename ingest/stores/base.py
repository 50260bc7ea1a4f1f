"""The interface that every store implements. One contract suite, tests/stores/, tries them all.

Keys are relative to the destination's prefix, and checked (:func:`ingest.config.checked_key`); the
folder ``.ingest/`` below the prefix is the manifests'. Every method may be called from any thread of
the process that made the store, and every method may be repeated. Each store turns its vendor's
errors into ours (:class:`ingest.errors.StoreError`) at its own boundary, and retries nothing by itself:
retry, limits and waiting wrap this interface.
"""

from __future__ import annotations

import abc
import builtins
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, Self

INTERNAL = ".ingest/"
"""The manifests' folder. It is listed only where the prefix begins with it."""


def probe_key() -> str:
    """A key that nobody else has, to try a store out with, or to begin others with."""
    return f"{INTERNAL}probe-{secrets.token_hex(8)}"


class Checksum(StrEnum):
    """How a store's answer to a put is checked against the SHA-256 of the bytes sent."""

    SHA256 = "sha256"
    """The server checks a SHA-256 header and refuses other bytes."""
    MD5 = "md5"
    """The answer's ETag is the MD5 of what is stored, and is compared. Where one is not, the object is read back."""
    READ_BACK = "read_back"
    """The object is read back and hashed."""
    NONE = "none"
    """Nothing is checked but the answer's success. Only where a config asks for it."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a probe found out about a store. Recorded in the job, so that every node goes the same way.

    Attributes:
        if_absent: a second conditional write of a key is refused (If-None-Match is honoured).
        checksum: how answers are checked.
        metadata: an object's metadata comes back as it was given.
        resumable: uploads of large files can be taken over by another node.
        md5_etags: the ETag of an object that was put whole is the MD5 of its bytes.
        probed_at_s: when it was probed (Unix), by the store's own clock: what is older was there before. None where
            the store does not say.
        unsigned_body: requests need not sign their body's hash, where TLS or nothing protects it on the way and
            the answer is checked in another way, so that each body is hashed once less.
    """

    if_absent: bool
    checksum: Checksum
    metadata: bool
    resumable: bool
    md5_etags: bool = False
    probed_at_s: float | None = field(default=None, compare=False)
    unsigned_body: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From what :meth:`to_dict` made."""
        return cls(**{**data, "checksum": Checksum(data["checksum"])})


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What is stored with an object.

    Attributes:
        sha256: hexadecimal SHA-256 of the body, taken as it was read from its source.
        content_type: its media type.
        metadata: names and values in ASCII; ``sha256`` is added by the store.
    """

    sha256: str
    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """The store's answer to a put, checked."""

    key: str
    size_bytes: int
    etag: str | None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows of an object.

    ``sha256`` and ``metadata`` come from :meth:`Store.stat` only, ``modified_s`` (Unix, by the store's clock) from
    listings, where the store says.
    """

    key: str
    size_bytes: int
    etag: str | None = None
    sha256: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    modified_s: float | None = None

    @property
    def job_id(self) -> str:
        """The job that stored it, as its metadata say; "" where they do not."""
        return self.metadata.get("ingest-item", "").partition("/")[0]


class UploadRecords(Protocol):
    """Where the IDs of unfinished multipart uploads are kept (the job's ledger), so that any node goes on."""

    def upload_id(self, key: str) -> str | None:
        """The recorded upload ID for a key; "" where one was begun but its ID never came to be recorded."""

    def record_upload(self, key: str, upload_id: str) -> None:
        """Record that an upload is about to begin (``""``), or its ID."""

    def forget_upload(self, key: str) -> None:
        """The upload is completed or aborted."""


def bare_etag(etag: str | None) -> str | None:
    """An ETag without the quotes that servers put around it in some answers and leave out in others."""
    return etag.strip('"') if etag is not None else None


def never() -> None:
    """The default check of a transfer: go on."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How a store sends a large file: in parts of so many bytes, each of which its server's answer proves by a digest.

    Attributes:
        part_bytes: of every part but the last.
        digest: its name, as :func:`hashlib.new` takes it.
    """

    part_bytes: int
    digest: Literal["md5", "sha256"]


@dataclass(frozen=True, slots=True)
class Transfer:
    """How one put of a large file reports and is interrupted.

    Attributes:
        digests: of the file's parts, as :meth:`Store.cut` cuts it, taken in the same pass as ``meta.sha256``; or None.
        records: where its upload ID is kept, or None where it cannot be taken over.
        check: called before each part and while waiting, from several threads; raises
            :class:`ingest.errors.Stopped` to interrupt. The parts already sent stay, for the next to
            go on from.
        sent: called with the number of bytes of each part that is stored, whether sent now or found there; again where
            it is sent again.
        pace: called with the number of bytes of each part just before it is sent; may wait.
    """

    digests: Sequence[bytes] | None = None
    records: UploadRecords | None = None
    check: Callable[[], None] = never
    sent: Callable[[int], None] = lambda size_bytes: None
    pace: Callable[[int], None] = lambda size_bytes: None


class Store(abc.ABC):
    """A place below which objects are kept under keys."""

    url: str
    capabilities: Capabilities

    @abc.abstractmethod
    def probe(self) -> Capabilities:
        """Write, read and delete small objects below ``.ingest/`` to find out what this store honours.

        Raises:
            StoreUnreachable: no answer.
            StoreRefused: credentials are missing, wrong, or may not write, read, list or delete.
            BucketMissing: the bucket, or the parent of the folder, is not there.
        """

    def check_key(self, key: str) -> None:  # noqa: B027 - a default, not a duty
        """Refuse a key that this store cannot hold, where that is known without asking it.

        Raises:
            KeyInvalid: it is too long with the prefix before it, say.
        """

    @abc.abstractmethod
    def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
        """Store ``body`` whole, and check the answer as :attr:`capabilities` say.

        A reader never sees part of an object. ``if_absent`` counts only where ``capabilities.if_absent``.

        Raises:
            KeyInvalid: the store cannot hold such a key.
            ObjectExists: ``if_absent``, and there is an object.
            ChecksumMismatch: what was stored is not what was sent.
            StoreUnreachable, StoreRefused, StoreFull, BucketMissing: as their names say.
        """

    @abc.abstractmethod
    def put_file(
        self,
        key: str,
        path: Path,
        meta: ObjectMeta,
        *,
        if_absent: bool = False,
        transfer: Transfer | None = None,
    ) -> Stored:
        """Store a local file of any size in bounded memory, interruptible, going on where one was broken off.

        ``meta.sha256`` was taken in an earlier pass. A file that has changed since is not stored: its bytes are
        hashed again as they are sent, or the server's answer proves each part by its digest of that pass.

        Raises:
            SourceChanged: the file's bytes are not those of ``meta.sha256``.
            Stopped: raised by ``transfer.check``.
            ObjectExists, ChecksumMismatch, StoreError: as for :meth:`put`.
        """

    def cut(self, size_bytes: int) -> Cut | None:
        """How :meth:`put_file` sends a file of this size, where it is glad of the digests of its parts."""
        return None

    @abc.abstractmethod
    def stat(self, key: str) -> ObjectInfo | None:
        """Size, ETag, SHA-256 (where recorded with the object) and metadata; None where there is none."""

    @abc.abstractmethod
    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects whose keys begin with ``prefix``, in the order of their UTF-8 bytes, those after ``after``.

        Pages are fetched as they are needed, so stopping early is cheap. ``.ingest/`` is listed only where
        ``prefix`` begins with it.
        """

    def first_listed(self, prefix: str, after: str | None, limit: int) -> builtins.list[ObjectInfo]:
        """At most ``limit`` objects of a listing, at once.

        A store may be quicker here and take an object whose name ends with a slash for one without: what is listed
        may not be there, but what is there is listed.
        """
        return [*islice(self.list(prefix, after=after), limit)]

    @abc.abstractmethod
    def read(self, key: str) -> Iterator[bytes]:
        """The object's bytes, in pieces of at most a few MiB.

        Raises:
            ObjectMissing: there is none.
        """

    @abc.abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Delete these objects; one that is not there is no error."""

    def abort_upload(self, key: str, upload_id: str) -> None:  # noqa: B027 - a default, not a duty
        """Abort an unfinished multipart upload, or all for exactly this key where ``upload_id`` is "".

        One that is not there is no error. The default store has none.
        """

    def renew_credentials(self) -> bool:
        """Read the credentials anew, as a person may have renewed them; True where they are others now."""
        return False

    def close(self) -> None:  # noqa: B027 - a default, not a duty
        """Let go of connections."""

    def read_bytes(self, key: str) -> bytes:
        """The whole object, for small ones.

        Raises:
            ObjectMissing: there is none.
        """
        return b"".join(self.read(key))

    def first_bytes(self, key: str, most_bytes: int) -> bytes:
        """The begin of an object, or all of one that is smaller.

        Raises:
            ObjectMissing: there is none.
        """
        found = b""
        for piece in self.read(key):
            found += piece
            if len(found) >= most_bytes:
                break
        return found[:most_bytes]
