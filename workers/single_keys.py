"""A store that takes other objects, and not this one: what is its item's fault, for which no waiting would help."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from itertools import accumulate

from ingest.errors import ItemError, KeyConflict, KeyInvalid, ObjectMissing, StoreError, StoreUnreachable
from ingest.stores.base import ObjectMeta, Store, probe_key

BUSY = (429, 503)
"""The answers of a server that has too much to do."""
_BODY = b"probe"
_META = ObjectMeta(hashlib.sha256(_BODY).hexdigest(), "application/x-ingest-probe")


def may_be_its_own(error: StoreError) -> bool:
    """Whether an answer to a put may be about its key alone: a refusal without a known reason, or a 500."""
    if isinstance(error, StoreUnreachable):
        return error.status is not None and error.status >= 500 and error.status not in BUSY
    return type(error) in (StoreError, ObjectMissing)


def fault_of_key(store: Store, key: str, error: StoreError) -> ItemError | None:
    """The item's fault, where a store gave this answer to a put of its key and takes another object right after.

    A server that answers 500 may be in trouble, however small the object that it takes meanwhile. It is the key's
    fault where the server keeps objects in folders, and one lies where this key needs the other.
    """
    if not _takes_another(store):
        return None
    if not isinstance(error, StoreUnreachable):
        return KeyInvalid(
            f"{error.what}, though it takes other objects",
            hint="rename the file, or set destination.key to make keys that the server can hold",
        )
    other = _in_the_way(store, key)
    if other is None:
        return None
    return KeyConflict(
        f"{error.what}: it holds {other!r}, and cannot keep an object and a folder under one name",
        hint="remove what is there, or set another destination.key",
    )


def _takes_another(store: Store) -> bool:
    key = f"{probe_key()}/key"
    with suppress(StoreError):
        store.put(key, _BODY, _META)
        store.delete([key])
        return True
    return False


def _in_the_way(store: Store, key: str) -> str | None:
    """What lies where ``key`` needs a folder, or below it where it needs an object."""
    with suppress(StoreError):
        for folder in accumulate(key.split("/")[:-1], "{}/{}".format):
            if store.stat(folder) is not None:
                return folder
        for below in store.first_listed(f"{key}/", None, 1):
            return below.key
    return None
