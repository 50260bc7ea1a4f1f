"""Whether an object has the bytes that its own metadata promise.

Who put it may have died before the answer was checked, so it is checked now, as a put is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ingest.digests import etag_of_parts, md5_of
from ingest.stores.base import Checksum, ObjectInfo


def has_its_bytes(
    info: ObjectInfo,
    size_bytes: int,
    checksum: Checksum,
    read_back: Callable[[str], str | None],
    *,
    body: bytes | None = None,
    parts: Sequence[bytes] | None = None,
) -> bool:
    """Whether an object that names a SHA-256 has bytes of it, as far as the store's checksum goes.

    Args:
        size_bytes: that it must have.
        checksum: the store's.
        read_back: hashes what is stored under a key; asked where nothing else proves it.
        body: what was put whole under its key; None where it was too large to be held in memory.
        parts: the digests of the parts that a larger one is sent in, as :meth:`Store.cut` says; None where unknown.
    """
    if info.size_bytes != size_bytes:
        return False
    expected = _expected(info.etag or "", checksum, body, parts)
    if expected is not None:
        return info.etag == expected
    if checksum in (Checksum.SHA256, Checksum.NONE):
        return True
    return read_back(info.key) == info.sha256


def is_contradicted(
    info: ObjectInfo, checksum: Checksum, *, body: bytes | None = None, parts: Sequence[bytes] | None = None
) -> bool:
    """Whether an object's ETag looks like that of other bytes than these: what its metadata promise is no proof then.

    It may be none all the same: not every object of a store was written as ours are. ``body`` and ``parts`` are those
    of :func:`has_its_bytes`; where neither fits the ETag's form, nothing is contradicted.
    """
    expected = _expected(info.etag or "", checksum, body, parts)
    if not info.etag or expected is None:
        return False
    has_its_form = info.etag.partition("-")[2] == expected.partition("-")[2]
    return has_its_form and info.etag != expected


def _expected(etag: str, checksum: Checksum, body: bytes | None, parts: Sequence[bytes] | None) -> str | None:
    """The ETag that these bytes would have; None where ETags prove nothing, or this one is of another kind."""
    if checksum is not Checksum.MD5:
        return None
    if body is not None:
        return md5_of(body)
    return etag_of_parts(parts) if parts is not None and "-" in etag else None
