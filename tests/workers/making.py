"""A process's kit over a real folder, without Redis."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ingest.config import Settings, parse_config
from ingest.handle import make_context
from ingest.items import FileItem
from ingest.naming import KeyMaker
from ingest.plugin_loader import load_processors
from ingest.stores.base import ObjectInfo, ObjectMeta, Store, Stored, Transfer
from ingest.stores.local import LocalStore
from ingest.stores.wrapping import WrappedStore
from ingest.workers.batch import Batch, Kit
from ingest.workers.known_files import KnownFiles
from ingest.workers.pace import Pace
from ingest.workers.patience import PatientStore
from ingest.workers.upload import UploadPolicy
from ingest.workers.uploader import Uploader
from ingest.workers.watch import Watch
from tests.stores.helpers import Records

JOB_ID = "j1"
LARGE_BYTES = 1 << 20


def local_store(folder: Path) -> LocalStore:
    """A probed store in a folder."""
    store = LocalStore(f"file://{folder}", folder)
    store.probe()
    return store


@dataclass
class Bench:
    """A kit, the folder that it reads, the one that it writes, and what it told the other nodes."""

    root: Path
    stored: Path
    kit: Kit
    pauses: list[str] = field(default_factory=list)
    pauses_of_all: list[str] = field(default_factory=list)
    ends_of_pauses: list[None] = field(default_factory=list)

    def batch(self, **named: Any) -> Batch:
        """All files below the root as a batch."""
        return Batch(0, tuple(self.kit.processors.path.paths()), **named)

    def put(self, path: str, content: bytes = b"content") -> FileItem:
        """Make a file below the root; its item as a listing would have it."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return FileItem(path, len(content), file.stat().st_mtime_ns)

    def objects(self) -> dict[str, bytes]:
        """What is stored."""
        return {
            path.relative_to(self.stored).as_posix(): path.read_bytes()
            for path in self.stored.rglob("*")
            if path.is_file()
        }


@contextmanager
def bench(
    folder: Path,
    store: Store | None = None,
    *,
    watch: Watch | None = None,
    on_existing: str = "skip",
    key: str | None = None,
    threads: int = 4,
    bytes_in_flight: int = 1 << 20,
    knows_writer: bool = False,
    was_empty: bool = False,
    list_existing: bool = True,
    older_than_s: float | None = None,
    known_files: KnownFiles | None = None,
    **changes: Any,
) -> Iterator[Bench]:
    """A kit of a job that copies ``folder/source`` into ``folder/stored``."""
    root, stored = folder / "source", folder / "stored"
    root.mkdir(exist_ok=True)
    config = parse_config(
        {
            "name": "trial",
            "ingest_job": {"type": "files"},
            "path_processor": {"class": "folder", "params": {"root_dir": str(root)}},
            "destination": {"url": f"file://{stored}", "on_existing": on_existing, "key": key},
            **changes,
        }
    )
    settings = Settings(state_dir=folder / "state", plugin_paths=f"{folder}/plugins/")
    context = make_context(config, JOB_ID, 0, settings)
    processors = load_processors(config, context, settings)
    watch = watch or Watch()
    made: list[Bench] = []

    def pause(reason: str, for_all: bool) -> None:
        made[0].pauses.append(reason)
        if for_all:
            made[0].pauses_of_all.append(reason)

    def go_on() -> None:
        made[0].ends_of_pauses.append(None)

    patient = PatientStore(store or local_store(stored), watch, pause, go_on)
    policy = UploadPolicy(
        job_id=JOB_ID,
        on_existing=config.destination.on_existing,
        large_bytes=LARGE_BYTES,
        if_absent=True,
        knows_writer=knows_writer,
        was_empty=was_empty,
        older_than_s=older_than_s,
    )
    with ThreadPoolExecutor(threads) as executor:
        kit = Kit(
            node="n1",
            processors=processors,
            keys=KeyMaker(config.key_template, context, processors.tile, processors.path),
            store=patient,
            uploader=Uploader(patient, policy, watch, Records()),
            executor=executor,
            watch=watch,
            pace=Pace(threads),
            bytes_in_flight=bytes_in_flight,
            list_existing=list_existing,
            known_files=known_files,
        )
        made.append(Bench(root, stored, kit))
        yield made[0]
    processors.close()


class Remembering(WrappedStore):
    """A folder that gives an object's metadata back, as S3 does; for ``knows_writer``."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.metas: dict[str, ObjectMeta] = {}

    def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
        stored = self._store.put(key, body, meta, if_absent=if_absent)
        self.metas[key] = meta
        return stored

    def put_file(
        self,
        key: str,
        path: Path,
        meta: ObjectMeta,
        *,
        if_absent: bool = False,
        transfer: Transfer | None = None,
    ) -> Stored:
        stored = self._store.put_file(key, path, meta, if_absent=if_absent, transfer=transfer)
        self.metas[key] = meta
        return stored

    def stat(self, key: str) -> ObjectInfo | None:
        info = self._store.stat(key)
        return info and replace(info, metadata=self.metas[key].metadata if key in self.metas else {})


class FaultyStore(WrappedStore):
    """A real store whose puts fail with these errors first."""

    def __init__(self, store: Store, *faults: Exception) -> None:
        super().__init__(store)
        self.faults = list(faults)
        self.puts = 0

    def _fail(self) -> None:
        self.puts += 1
        if self.faults:
            raise self.faults.pop(0)

    def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
        self._fail()
        return self._store.put(key, body, meta, if_absent=if_absent)

    def put_file(
        self,
        key: str,
        path: Path,
        meta: ObjectMeta,
        *,
        if_absent: bool = False,
        transfer: Transfer | None = None,
    ) -> Stored:
        self._fail()
        return self._store.put_file(key, path, meta, if_absent=if_absent, transfer=transfer)
