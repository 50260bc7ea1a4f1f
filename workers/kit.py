"""What a process of a node makes once, after it was forked, and then uses for every batch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ingest.clock import clock_trouble
from ingest.config import Settings
from ingest.errors import IngestError, RedisError
from ingest.job import Job
from ingest.leased_slots import LeasedSlots
from ingest.stores.base import Store, UploadRecords
from ingest.stores.limits import LimitedStore
from ingest.stores.retry import RetryingStore
from ingest.workers.batch import Kit
from ingest.workers.dedupe import Dedupe
from ingest.workers.hands import Hands, ProcessorTime
from ingest.workers.known_files import KnownFiles
from ingest.workers.pace import Pace
from ingest.workers.patience import PatientStore, patiently
from ingest.workers.upload import UploadPolicy
from ingest.workers.uploader import Uploader
from ingest.workers.watch import Watch

T = TypeVar("T")


class PatientRecords:
    """A job's records of multipart uploads, waiting for a Redis that is away."""

    def __init__(self, records: UploadRecords, patience_s: float, watch: Watch) -> None:
        self._records = records
        self._patience_s = patience_s
        self._watch = watch

    def _wait(self, operation: Callable[[], T]) -> T:
        return patiently(operation, self._patience_s, self._watch.check)

    def upload_id(self, key: str) -> str | None:
        """See :class:`ingest.stores.base.UploadRecords`."""
        return self._wait(lambda: self._records.upload_id(key))

    def record_upload(self, key: str, upload_id: str) -> None:
        """See :class:`ingest.stores.base.UploadRecords`."""
        self._wait(lambda: self._records.record_upload(key, upload_id))

    def forget_upload(self, key: str) -> None:
        """See :class:`ingest.stores.base.UploadRecords`."""
        self._wait(lambda: self._records.forget_upload(key))


def make_kit(job: Job, node: str, hands: Hands | None = None) -> Kit:
    """A process's kit for a job. To be made after the fork: it opens connections, and last starts a thread.

    Args:
        job: the job.
        node: the name of the node that the process belongs to.
        hands: where the node looks for items that take too long.

    Raises:
        ConfigError: a processor is missing here, or its source cannot be read from here.
        StoreError: there are no credentials for the destination.
    """
    config, capabilities = job.config, job.record.capabilities
    watch = Watch.of(job.presence, node, os.getpid())

    def patient_with(store: Store) -> PatientStore:
        retrying: Store = RetryingStore(store, config.upload.retries, watch.check_waiting)
        if config.upload.bandwidth_bytes_per_s:
            retrying = LimitedStore(retrying, config.upload.bandwidth_bytes_per_s, watch.check)
        return PatientStore(
            retrying,
            watch,
            lambda reason, for_all: job.presence.pause(reason, node, for_all=for_all),
            job.presence.go_on,
            lambda: clock_trouble(job.ledger),
        )

    patient = patient_with(job.open_store())
    dedupe = None
    if config.destination.dedupe is not None:
        slots = LeasedSlots(job.ledger, watch.check, job.settings.redis_patience_s)
        dedupe = Dedupe(patient_with(job.open_bucket()), config.destination.prefix, job.job_id, slots)
    policy = UploadPolicy(
        job_id=job.job_id,
        on_existing=config.destination.on_existing,
        large_bytes=config.upload.multipart_threshold_bytes,
        if_absent=capabilities.if_absent,
        knows_writer=capabilities.metadata,
        was_empty=job.record.destination_was_empty,
        older_than_s=capabilities.probed_at_s if capabilities.md5_etags else None,
        digests=config.upload.digests,
    )
    records = PatientRecords(job.ledger.uploads, job.settings.redis_patience_s, watch)
    processor_time = ProcessorTime(hands if config.queue.item_timeout_s is not None else None)
    processors = job.processors(watch.check, processor_time.paused)
    conditional = capabilities.if_absent and job.record.destination_was_empty
    kit = Kit(
        node=node,
        processors=processors,
        keys=job.keys(processors),
        store=patient,
        uploader=Uploader(patient, policy, watch, records, dedupe),
        executor=ThreadPoolExecutor(config.upload.threads, "upload"),
        watch=watch,
        pace=Pace(config.upload.threads),
        bytes_in_flight=config.upload.bytes_in_flight,
        list_existing=config.destination.on_existing != "overwrite" and not conditional,
        known_files=None if config.upload.reread else KnownFiles(job.settings.state_dir),
        processor_time=processor_time,
    )
    watch.start()
    return kit


def kit_for(job_id: str, node: str, settings: Settings, hands: Hands | None = None) -> tuple[Job, Kit]:
    """The job and this process's kit for it. Why there is none, the node's record says.

    Raises:
        IngestError: see :func:`make_kit`.
    """
    job = Job(job_id, settings)
    try:
        kit = make_kit(job, node, hands)
    except IngestError as error:
        _say(job, node, error.what)
        raise
    _say(job, node, "")
    return job, kit


def _say(job: Job, node: str, trouble: str) -> None:
    with contextlib.suppress(RedisError):
        job.presence.announce(node, {"trouble": trouble})
