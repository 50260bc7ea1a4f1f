"""The base of what wraps a store: everything goes through, and one overrides what it changes."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from ingest.stores.base import Capabilities, Cut, ObjectInfo, ObjectMeta, Store, Stored, Transfer

Answer = TypeVar("Answer")


class WrappedStore(Store):
    """A store that hands every call to another. All that have one answer go through :meth:`_do`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _do(self, call: Callable[[], Answer]) -> Answer:
        """Make a call of the wrapped store, which may be repeated. The place to retry, or to wait."""
        return call()

    def _do_put(self, key: str, put: Callable[[], Stored]) -> Stored:
        """Make a put of this key: the place for what is to be done for puts alone."""
        return self._do(put)

    @property
    def url(self) -> str:  # type: ignore[override]
        """The wrapped store's."""
        return self._store.url

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """The wrapped store's."""
        return self._store.capabilities

    def probe(self) -> Capabilities:
        """See :meth:`Store.probe`."""
        return self._store.probe()

    def check_key(self, key: str) -> None:
        """See :meth:`Store.check_key`."""
        self._store.check_key(key)

    def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
        """See :meth:`Store.put`."""
        return self._do_put(key, lambda: self._store.put(key, body, meta, if_absent=if_absent))

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

        def put() -> Stored:
            return self._store.put_file(key, path, meta, if_absent=if_absent, transfer=transfer)

        return self._do_put(key, put)

    def cut(self, size_bytes: int) -> Cut | None:
        """See :meth:`Store.cut`."""
        return self._store.cut(size_bytes)

    def stat(self, key: str) -> ObjectInfo | None:
        """See :meth:`Store.stat`."""
        return self._do(lambda: self._store.stat(key))

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Store.list`."""
        return self._store.list(prefix, after=after)

    def first_listed(self, prefix: str, after: str | None, limit: int) -> builtins.list[ObjectInfo]:
        """See :meth:`Store.first_listed`."""
        return self._do(lambda: self._store.first_listed(prefix, after, limit))

    def read(self, key: str) -> Iterator[bytes]:
        """See :meth:`Store.read`."""
        return self._store.read(key)

    def first_bytes(self, key: str, most_bytes: int) -> bytes:
        """See :meth:`Store.first_bytes`."""
        return self._do(lambda: self._store.first_bytes(key, most_bytes))

    def delete(self, keys: Iterable[str]) -> None:
        """See :meth:`Store.delete`."""
        all_keys = [*keys]
        self._do(lambda: self._store.delete(all_keys))

    def abort_upload(self, key: str, upload_id: str) -> None:
        """See :meth:`Store.abort_upload`."""
        self._do(lambda: self._store.abort_upload(key, upload_id))

    def renew_credentials(self) -> bool:
        """See :meth:`Store.renew_credentials`."""
        return self._store.renew_credentials()

    def close(self) -> None:
        """See :meth:`Store.close`."""
        self._store.close()
