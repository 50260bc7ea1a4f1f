"""Whether an object has the bytes that its own metadata promise.

Who put it may have died before the answer was checked, so it is checked now, as a put is.
"""

from __future__ import annotations

from ingest.digests import md5_of
from ingest.stores.base import Checksum, ObjectInfo
from ingest.workers.patience import PatientStore


def has_its_bytes(store: PatientStore, info: ObjectInfo, size_bytes: int, body: bytes | None) -> bool:
    """Whether an object that names a SHA-256 has bytes of it, as far as the store's checksum goes.

    Args:
        body: what was put whole under its key; None where it was too large to be held in memory.
    """
    if info.size_bytes != size_bytes:
        return False
    checksum, etag = store.capabilities.checksum, info.etag or ""
    if checksum is Checksum.MD5 and body is not None:
        return etag == md5_of(body)
    is_of_parts = checksum is Checksum.MD5 and "-" in etag  # each was checked before they became an object
    if is_of_parts or checksum in (Checksum.SHA256, Checksum.NONE):
        return True
    return store.sha256(info.key) == info.sha256
