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
    if checksum is Checksum.MD5 and body is not None:
        return info.etag == md5_of(body)
    if checksum is Checksum.MD5 and parts is not None and "-" in (info.etag or ""):
        return info.etag == etag_of_parts(parts)
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
    etag = info.etag or ""
    if checksum is not Checksum.MD5 or not etag:
        return False
    if "-" not in etag:
        return body is not None and etag != md5_of(body)
    return parts is not None and etag.endswith(f"-{len(parts)}") and etag != etag_of_parts(parts)
