"""What the store tests share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.config import Destination, UploadConfig
from ingest.stores.base import ObjectMeta, Store
from ingest.stores.open import open_store

MIB = 1 << 20
UPLOAD = UploadConfig(multipart_threshold_bytes=5 * MIB, part_size_bytes=5 * MIB, threads=8)


def meta_of(body: bytes, **named: Any) -> ObjectMeta:
    """What is stored with ``body``."""
    return ObjectMeta(hashlib.sha256(body).hexdigest(), **named)


def put(store: Store, key: str, body: bytes = b"body", **named: Any) -> None:
    """Store ``body``."""
    store.put(key, body, meta_of(body), **named)


def keys(store: Store, prefix: str = "", **named: Any) -> list[str]:
    """The listed keys."""
    return [found.key for found in store.list(prefix, **named)]


def probed(destination: Destination, upload: UploadConfig = UPLOAD) -> Store:
    """The store of a destination, after its probe."""
    store = open_store(destination, upload)
    store.probe()
    return store


def large_file(folder: Path, size_bytes: int, seed: int = 0) -> tuple[Path, bytes]:
    """A file of bytes that repeat nowhere near, and the bytes."""
    body = hashlib.shake_128(seed.to_bytes(8, "big")).digest(size_bytes)
    path = folder / f"large-{seed}"
    path.write_bytes(body)
    return path, body


@dataclass
class Records:
    """Upload records in memory, as a job's ledger keeps them."""

    ids: dict[str, str] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)

    def upload_id(self, key: str) -> str | None:
        return self.ids.get(key)

    def record_upload(self, key: str, upload_id: str) -> None:
        self.history.append("begin" if upload_id == "" else "id")
        self.ids[key] = upload_id

    def forget_upload(self, key: str) -> None:
        self.history.append("forget")
        self.ids.pop(key, None)
