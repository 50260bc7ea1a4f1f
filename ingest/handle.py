"""A handle on a job: its record, its ledger, queue, nodes, processors and store, each made when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ingest.config import JobConfig, Settings, TilesJob
from ingest.errors import IngestError
from ingest.items import Grid, Item
from ingest.leased_slots import LeasedSlots
from ingest.ledger import FailedItem, JobRecord, Ledger
from ingest.naming import KeyMaker
from ingest.plugin_loader import Processors, load_finishers, load_processors
from ingest.presence import NodeSample, Presence
from ingest.processors import Finisher, JobContext
from ingest.redis_server import redis_url
from ingest.status import Status
from ingest.stores.base import Store, never
from ingest.stores.open import open_bucket, open_store
from ingest.stores.retry import RetryingStore

if TYPE_CHECKING:
    from ingest.queue import JobQueue


class JobHandle:
    """What all who work on a job need of it.

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
        """The job's queue. Celery is loaded with it, which takes longer than to look at a job."""
        from ingest.queue import JobQueue

        return JobQueue(self.ledger, self.config.queue.lease_s)

    @cached_property
    def store(self) -> Store:
        """The job's destination, with retries for passing faults."""
        return RetryingStore(self.open_store(), self.config.upload.retries)

    def open_store(self) -> Store:
        """The job's destination as its probe found it, opened anew.

        Raises:
            ConfigError, StoreRefused: it cannot be used from this machine; there may be no credentials.
        """
        return open_store(self.config.destination, self.config.upload, self.record.capabilities)

    @cached_property
    def bucket(self) -> Store:
        """The whole bucket that the destination lies in, with retries for passing faults."""
        return RetryingStore(self.open_bucket(), self.config.upload.retries)

    def open_bucket(self) -> Store:
        """The bucket, opened anew; see :meth:`open_store`."""
        return open_bucket(self.config.destination, self.config.upload, self.record.capabilities)

    def processors(
        self,
        check: Callable[[], None] = never,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Processors:
        """New processors for the job, checked on this machine.

        Args:
            check: called while a processor waits, for a slot say; raises to interrupt.
            waiting: a context in which it waits, for a slot say.

        Raises:
            ConfigError: one is missing here, not allowed here, or cannot read its source from here.
        """
        slots = LeasedSlots(self.ledger, check, self.settings.redis_patience_s, waiting=waiting)
        context = replace(self.context, slots=slots, check=check, waiting=waiting)
        processors = load_processors(self.config, context, self.settings)
        processors.path.check()
        processors.tile.check()
        return processors

    def finishers(self) -> list[Finisher[Any]]:
        """New finishers for the job, checked on this machine.

        Raises:
            ConfigError: one is missing here, not allowed here, or does not suit the job.
        """
        finishers = load_finishers(self.config, self.context, self.settings)
        for finisher in finishers:
            finisher.check()
        return finishers

    def keys(self, processors: Processors) -> KeyMaker:
        """What makes the job's keys."""
        return KeyMaker(self.config.key_template, self.context, processors.tile, processors.path)

    def items(self, batch: int, listed: list[Item] | None) -> list[Item]:
        """The items of a batch: those ``listed`` in its payload, or, where it has none, by arithmetic.

        Raises:
            IngestError: they are neither: Redis has lost them.
        """
        if listed is not None:
            return listed
        grid, size = self.context.grid, self.config.batch_items
        if grid is None or batch * size >= len(grid):
            raise IngestError(
                f"Redis has lost the items of batch {batch} of job {self.job_id}",
                hint="is its maxmemory-policy noeviction? Create the job again: what is stored is skipped",
            )
        return list(grid.tiles(batch * size, (batch + 1) * size))

    def status(self, sample: NodeSample | None = None) -> Status:
        """The job now: with all its nodes, or with a ``sample`` of them, which spares a Redis of many nodes."""
        state, counts, fields = self.ledger.snapshot()
        with self.ledger.readable():
            if sample is None:
                nodes = tuple(self.presence.nodes())
            else:
                sample.look()
                nodes = sample.nodes
            pause = self.presence.pause_reason()
        return Status(
            job_id=self.job_id,
            name=self.config.name,
            state=state,
            counts=counts,
            nodes=nodes,
            node_count=sample.count if sample else len(nodes),
            pause=pause,
            trouble=fields.get("trouble", ""),
            destination=self.config.destination.url,
            created_s=self.record.created_s,
            ended_s=int(fields["ended_s"]) if "ended_s" in fields else None,
        )

    def failures(self) -> Iterator[FailedItem]:
        """The failed items, with their reasons."""
        return iter(self.ledger.failures)


def make_context(
    config: JobConfig, job_id: str, created_s: int, settings: Settings, *, is_preview: bool = False
) -> JobContext:
    """What a job's processors may know of it."""
    tiles = config.ingest_job if isinstance(config.ingest_job, TilesJob) else None
    return JobContext(
        job_id=job_id,
        job_name=config.name,
        date=datetime.fromtimestamp(created_s, UTC).date().isoformat(),
        grid=Grid(tiles) if tiles else None,
        scratch_dir=settings.scratch,
        config=config.model_dump(mode="json", by_alias=True),
        created_s=created_s,
        is_preview=is_preview,
    )
