"""Puts a store that keeps nothing but manifests into every ``ingest`` process that has this folder on PYTHONPATH.

A trial's commands and nodes are the real ones, started in the usual way; only where their data would go is
nowhere. Python imports this module by itself, by its name, before anything else.
"""

from __future__ import annotations

from pathlib import Path

import ingest.stores.open as opening
from ingest.stores.base import ObjectMeta, Store, Stored, Transfer
from ingest.stores.local import LocalStore
from ingest.stores.source import hashed_pieces

_open_store = opening.open_store
_OURS = ".ingest/"
_PIECE_BYTES = 8 << 20


class NullStore(LocalStore):
    """A folder that discards objects, save those below ``.ingest/``."""

    def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
        """See :meth:`Store.put`."""
        if key.startswith(_OURS):
            return super().put(key, body, meta, if_absent=if_absent)
        return Stored(key, len(body), None)

    def put_file(
        self,
        key: str,
        path: Path,
        meta: ObjectMeta,
        *,
        if_absent: bool = False,
        transfer: Transfer | None = None,
    ) -> Stored:
        """See :meth:`Store.put_file`."""
        if key.startswith(_OURS):
            return super().put_file(key, path, meta, if_absent=if_absent, transfer=transfer)
        transfer = transfer or Transfer()
        size_bytes = 0
        for piece in hashed_pieces(path, meta, _PIECE_BYTES, transfer.check):
            size_bytes += len(piece)
            transfer.sent(len(piece))
        return Stored(key, size_bytes, None)


def open_store(*args: object, **more: object) -> Store:
    """As Ingest's own, but a folder becomes a :class:`NullStore`."""
    store = _open_store(*args, **more)  # type: ignore[arg-type]
    if isinstance(store, LocalStore):
        store.__class__ = NullStore
    return store


opening.open_store = open_store  # type: ignore[assignment]
