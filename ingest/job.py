"""A job from the outside: create it, look at it, cancel, retry and complete it.

The commands are thin over this module, and notebooks use it too::

    import ingest
    job = ingest.create("config.json")
    print(job.status().state)
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from ingest.config import JobConfig, Settings, TilesJob, load_job_config, parse_config
from ingest.config.key_template import FILE_FIELDS, JOB_FIELDS, TILE_FIELDS
from ingest.errors import ConfigError, IngestError, JobError, StoreError, did_you_mean
from ingest.items import FileItem, Grid, Item
from ingest.ledger import OPEN_STATES, Counts, FailedItem, JobRecord, Ledger, State, job_ids, pack_items
from ingest.naming import KeyMaker
from ingest.plugin_loader import Processors, load_processors, resolve_processors
from ingest.presence import NodeInfo, Presence
from ingest.processors import JobContext
from ingest.queue import JobQueue
from ingest.redis_client import connect
from ingest.redis_server import redis_url
from ingest.stores.base import Capabilities, Store
from ingest.stores.open import open_store
from ingest.version import LEDGER_FORMAT, __version__

log = logging.getLogger(__name__)

NODES_GONE_WITHIN_S = 12.0
_ID_LETTERS = "23456789abcdefghjkmnpqrstvwxyz"


@dataclass(frozen=True, slots=True)
class Status:
    """A job at one moment. ``pause`` and ``trouble`` say why it waits, where it does."""

    job_id: str
    name: str
    state: State
    counts: Counts
    nodes: tuple[NodeInfo, ...]
    pause: str
    trouble: str
    destination: str
    created_s: int
    ended_s: int | None

    @property
    def items_total(self) -> int:
        """Items that are known of."""
        return max(self.counts.items_total, self.counts.items_listed)

    @property
    def total_is_final(self) -> bool:
        """Whether no more items will be found."""
        return self.counts.enumerated or self.counts.items_total >= 0

    @property
    def exit_code(self) -> int:
        """The exit code that this state means for a command that waited for the job's end."""
        codes = {State.FAILED: 3, State.CANCELLING: 4, State.CANCELLED: 4, State.EXPIRED: 4}
        return codes.get(self.state, 3 if self.state is State.UPLOADED and self.counts.failed else 0)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for ``status --json``."""
        counts = self.counts
        return {
            "job_id": self.job_id,
            "name": self.name,
            "state": str(self.state),
            "items": {
                "total": self.items_total,
                "total_is_final": self.total_is_final,
                "done": counts.done,
                "failed": counts.failed,
                "skipped": counts.skipped,
                "blank": counts.blank,
            },
            "bytes": {
                "total": counts.bytes_listed if counts.items_total < 0 else None,
                "done": counts.bytes_done,
                "stored": counts.bytes_stored,
            },
            "objects": counts.objects,
            "nodes": [node.to_dict() for node in self.nodes],
            "pause": self.pause or None,
            "trouble": self.trouble or None,
            "destination": self.destination,
            "created_s": self.created_s,
            "ended_s": self.ended_s,
        }


class Job:
    """A handle on a job in Redis.

    Args:
        job_id: its ID.
        settings: this machine's settings; by default as ``INGEST_*`` variables and the settings file say.

    Raises:
        JobNotFound, JobTooNew, RedisError: see their names.
    """

    def __init__(self, job_id: str, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.load()
        self.job_id = job_id
        self.ledger = Ledger(redis_url(self.settings), job_id)
        self.record: JobRecord = self.ledger.record()

    @property
    def config(self) -> JobConfig:
        """The job's config, with every default filled in."""
        return self.record.config

    @cached_property
    def context(self) -> JobContext:
        """What the job's processors may know of it."""
        return make_context(self.config, self.job_id, self.record.created_s, self.settings)

    @cached_property
    def presence(self) -> Presence:
        """The job's nodes."""
        return Presence(self.ledger)

    @cached_property
    def queue(self) -> JobQueue:
        """The job's queue."""
        return JobQueue(self.ledger, self.config.queue.lease_s)

    @cached_property
    def store(self) -> Store:
        """The job's destination, as its probe found it."""
        return open_store(self.config.destination, self.config.upload, self.record.capabilities)

    def processors(self) -> Processors:
        """New processors for the job, checked on this machine.

        Raises:
            ConfigError: one is missing here, not allowed here, or cannot read its source from here.
        """
        processors = load_processors(self.config, self.context, self.settings)
        processors.path.check()
        processors.tile.check()
        return processors

    def keys(self, processors: Processors) -> KeyMaker:
        """What makes the job's keys."""
        return KeyMaker(self.config.key_template, self.context, processors.tile)

    def status(self) -> Status:
        """The job now."""
        state, counts, fields = self.ledger.snapshot()
        return Status(
            job_id=self.job_id,
            name=self.config.name,
            state=state,
            counts=counts,
            nodes=tuple(self.presence.nodes()),
            pause=self.presence.pause_reason(),
            trouble=fields.get("trouble", ""),
            destination=self.config.destination.url,
            created_s=self.record.created_s,
            ended_s=int(fields["ended_s"]) if "ended_s" in fields else None,
        )

    def failures(self) -> Iterator[FailedItem]:
        """The failed items, with their reasons."""
        return self.ledger.failures()

    def cancel(self, *, delete_uploaded: bool = False) -> None:
        """Stop the job for good: nodes stop, the queue is purged, unfinished uploads are aborted.

        May be repeated; a cancel that was cut off is finished.

        Args:
            delete_uploaded: delete the objects that this job stored, too.

        Raises:
            JobError: the job has ended already.
        """
        if self.ledger.state() is not State.CANCELLED:
            self.ledger.transition(State.CANCELLING, *OPEN_STATES)
            self._wind_up()
        if delete_uploaded:
            self.store.delete(self._stored_keys())
        if self.ledger.state() is State.CANCELLING:
            self.ledger.forget_work()
            self.ledger.transition(State.CANCELLED, State.CANCELLING)

    def expire(self) -> bool:
        """End a job that was not finished in ``expires_after_days``. True where that was so.

        Where the destination cannot be reached, what is unfinished there is aborted the next time.
        """
        age_s = self.ledger.now_s() - self.record.created_s
        if age_s < self.config.expires_after_days * 86_400:
            return False
        state, _, fields = self.ledger.snapshot()
        if state in OPEN_STATES:
            self.ledger.transition(State.EXPIRED, *OPEN_STATES)
        elif state is not State.EXPIRED or "wound_up" in fields:
            return False
        try:
            self._wind_up()
        except (StoreError, ConfigError) as error:
            log.warning("job %s has expired, but %s", self.job_id, error.what)
            return True
        self.ledger.forget_work()
        self.ledger.note(wound_up="1")
        return True

    def _wind_up(self) -> None:
        """Purge the queue, wait for the nodes to go, and abort what they left half done."""
        self.queue.purge()
        gone_by = time.monotonic() + NODES_GONE_WITHIN_S
        while self.presence.nodes() and time.monotonic() < gone_by:
            time.sleep(0.1)
        self.queue.purge()
        self.abort_uploads()

    def abort_uploads(self) -> None:
        """Abort the unfinished multipart uploads of this job. May be repeated."""
        for key, upload_id in self.ledger.unfinished_uploads().items():
            self.store.abort_upload(key, upload_id)
            self.ledger.forget_upload(key)

    def _stored_keys(self) -> Iterator[str]:
        """The keys of what this job stored and did not find there, then those of its manifest."""
        from ingest import manifest

        yield from manifest.stored_keys(self.store, self.job_id, self.settings.scratch)
        yield from self._uncommitted_keys()
        yield from [info.key for info in self.store.list(manifest.folder(self.job_id))]

    def _uncommitted_keys(self) -> Iterator[str]:
        """Keys of batches that were cut off, where the object there says that this job stored it."""
        processors = load_processors(self.config, self.context, self.settings)
        keys = self.keys(processors)
        _, counts, _ = self.ledger.snapshot()
        for batch in self.ledger.uncommitted(counts.batches):
            for item in self.items(batch):
                with_key = _key_or_none(keys, item)
                info = self.store.stat(with_key) if with_key else None
                if with_key and info and info.metadata.get("ingest-item", "").startswith(f"{self.job_id}/"):
                    yield with_key

    def items(self, batch: int, listed: list[Item] | None = None) -> list[Item]:
        """The items of a batch: those ``listed`` in its payload, or by arithmetic."""
        items = listed if listed is not None else self.ledger.payload_items(batch)
        if items is not None:
            return items
        grid, size = self.context.grid, self.config.batch_items
        return list(grid.tiles(batch * size, (batch + 1) * size)) if grid else []

    def retry(self) -> int:
        """Reopen a failed job with its failed items; how many they are.

        Files are taken as they are now, whatever their size was when they were first listed.

        Raises:
            JobError: the job is not ``failed``.
        """
        state = self.ledger.state()
        if state is not State.FAILED:
            raise JobError(f"job {self.job_id} is {state}; only a failed job can be retried")
        while True:
            _, counts, _ = self.ledger.snapshot()
            items = [_afresh(failure.item) for failure in self.failures()]
            size = self.config.batch_items
            payloads = [pack_items(items[start : start + size]) for start in range(0, len(items), size)]
            if self.ledger.reopen(payloads, failures=len(items), batches=counts.batches):
                self.queue.publish(range(counts.batches, counts.batches + len(payloads)))
                return len(items)

    def complete(self) -> State:
        """Make the manifest and end the job. May be repeated, and taken over from one that died.

        Raises:
            JobError: batches are still to be done.
            StoreError: the destination cannot be written; the job stays ``completing``.
        """
        from ingest import manifest

        state, counts, _ = self.ledger.snapshot()
        if state in (State.COMPLETE, State.FAILED):
            return state
        if not counts.enumerated or counts.committed < counts.batches:
            left = counts.batches - counts.committed
            raise JobError(
                f"job {self.job_id} is {state} with {left} batches to do",
                hint=f"`ingest join -j {self.job_id}` helps",
            )
        self.ledger.transition(State.COMPLETING, State.PREPARING, State.UPLOADING, State.UPLOADED)
        self.abort_uploads()
        end = State.FAILED if counts.failed else State.COMPLETE
        summary = self._summary(end)
        manifest.complete(self.store, self.job_id, counts.batches, summary, self.settings.scratch)
        self.queue.purge()
        self.ledger.transition(end, State.COMPLETING)
        return end

    def _summary(self, end: State) -> dict[str, Any]:
        summary = self.status().to_dict()
        for passing in ("nodes", "pause", "trouble"):
            del summary[passing]
        return {
            **summary,
            "state": str(end),
            "ended_s": self.ledger.now_s(),
            "ingest_version": __version__,
            "capabilities": self.record.capabilities.to_dict(),
            "config": self.config.model_dump(mode="json", by_alias=True),
            "failures": [
                {"item": f.item.name, "error": f.error, "reason": f.reason} for f in self.failures()
            ],
        }


def create(
    config: str | Path | Mapping[str, Any],
    *,
    to: str | None = None,
    manual_complete: bool = False,
    settings: Settings | None = None,
) -> Job:
    """Check a config and its destination, and make a job of it. Nothing is listed or stored yet.

    Args:
        config: a config file, or what one would hold (relative paths from the current folder).
        to: a destination that wins over the config's.
        manual_complete: wait in ``uploaded`` for :meth:`Job.complete`.
        settings: this machine's settings.

    Raises:
        ConfigError: the config, a processor or the source is wrong.
        StoreError: the destination cannot be used: unreachable, refused, or no such bucket.
        RedisError: Redis cannot be used.
    """
    settings = settings or Settings.load()
    if isinstance(config, str | Path):
        raw, base_dir = load_job_config(Path(config), to=to), Path(config).parent
    else:
        raw, base_dir = dict(config), Path.cwd()
        if to is not None:
            raw["destination"] = {**raw.get("destination", {}), "url": to}
    checked = check(raw, base_dir, settings)
    return create_checked(checked, probe(checked), manual_complete=manual_complete, settings=settings)


def check(raw: Mapping[str, Any], base_dir: Path, settings: Settings) -> JobConfig:
    """The config with everything in it checked that can be without the destination: also that the source is there.

    Raises:
        ConfigError: see :func:`create`.
    """
    config = resolve_processors(
        parse_config(raw, base_dir=base_dir.absolute()), settings, base_dir.absolute()
    )
    processors = load_processors(
        config, make_context(config, "preview", int(time.time()), settings), settings
    )
    processors.path.check()
    processors.tile.check()
    _check_key_fields(config, processors)
    _check_apart(config)
    processors.close()
    return config


def _check_key_fields(config: JobConfig, processors: Processors) -> None:
    """Refuse a key template with a field that no item of this job can have."""
    tiles = isinstance(config.ingest_job, TilesJob)
    known = {*JOB_FIELDS, *(TILE_FIELDS if tiles else FILE_FIELDS), *processors.tile.key_fields}
    for name in sorted(config.key_template.field_names - known):
        kind = "tiles" if tiles else "files"
        raise ConfigError(
            f"{{{name}}} is no field of a job over {kind}",
            place="destination.key",
            hint=did_you_mean(name, known),
        )


def _check_apart(config: JobConfig) -> None:
    """Refuse a destination inside the source: the job would list what it stores."""
    root, url = config.path_processor.params.get("root_dir"), config.destination.url
    if root is None or not url.startswith("file://") or isinstance(config.ingest_job, TilesJob):
        return
    destination = Path(url.removeprefix("file://").removeprefix("localhost")).resolve()
    if destination.is_relative_to(Path(root).resolve()):
        raise ConfigError(
            f"{destination} lies inside the source {root}",
            place="destination.url",
            hint="choose a folder outside it",
        )


@dataclass(frozen=True, slots=True)
class Probed:
    """What a destination's probe found: what the store honours, and whether anything was there before."""

    capabilities: Capabilities
    was_empty: bool


def probe(config: JobConfig) -> Probed:
    """Try a job's destination out, with a few small writes below ``.ingest/``. May be repeated.

    Raises:
        StoreError: it cannot be used: unreachable, refused, or no such bucket.
    """
    store = open_store(config.destination, config.upload)
    try:
        return Probed(store.probe(), next(store.list(), None) is None)
    finally:
        store.close()


def create_checked(config: JobConfig, probed: Probed, *, manual_complete: bool, settings: Settings) -> Job:
    """Make a job of a config that :func:`check` has passed, and whose destination :func:`probe` has tried."""
    url = redis_url(settings)
    fields = {
        "format": str(LEDGER_FORMAT),
        "version": __version__,
        "name": config.name,
        "config": config.model_dump_json(by_alias=True),
        "capabilities": json.dumps(probed.capabilities.to_dict()),
        "manual_complete": str(int(manual_complete)),
        "destination_was_empty": str(int(probed.was_empty)),
    }
    if isinstance(config.ingest_job, TilesJob):
        fields["items_total"] = str(len(Grid(config.ingest_job)))
    while True:
        job_id = _new_id()
        if Ledger(url, job_id).create(fields):
            return Job(job_id, settings)


def jobs(settings: Settings) -> Iterator[Job | IngestError]:
    """Every job in this Redis, newest first; an error in place of one that cannot be read."""
    url = redis_url(settings)
    for job_id in job_ids(url, connect(url)):
        try:
            yield Job(job_id, settings)
        except JobError as error:
            yield error


def make_context(config: JobConfig, job_id: str, created_s: int, settings: Settings) -> JobContext:
    """What a job's processors may know of it."""
    tiles = config.ingest_job if isinstance(config.ingest_job, TilesJob) else None
    return JobContext(
        job_id=job_id,
        job_name=config.name,
        date=datetime.fromtimestamp(created_s, UTC).date().isoformat(),
        grid=Grid(tiles) if tiles else None,
        scratch_dir=settings.scratch,
        config=config.model_dump(mode="json", by_alias=True),
    )


def _new_id() -> str:
    """A job ID that can be read aloud: eight letters and digits, none easily mistaken for another."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(8))


def _afresh(item: Item) -> Item:
    """A failed item as it is tried again: a file as it is now."""
    return replace(item, size_bytes=None, mtime_ns=None) if isinstance(item, FileItem) else item


def _key_or_none(keys: KeyMaker, item: Item) -> str | None:
    try:
        return keys.key(item)
    except IngestError:
        return None
