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
