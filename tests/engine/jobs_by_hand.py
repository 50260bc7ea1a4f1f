"""Jobs that a test makes and moves by hand, on a real Redis, without a node."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from ingest.creation import create
from ingest.feeder import Feeder
from ingest.items import FileItem
from ingest.job import Job
from ingest.ledger import Attempt, State, Tally
from ingest.plugin_loader import Processors
from ingest.processors import JobContext, Params, PathProcessor
from ingest.workers.kit import make_kit
from ingest.workers.tasks import run_batch


def job_over(folder: Path, *, manual_complete: bool = False, **changes: Any) -> Job:
    """A job over ``folder/source``, into ``folder/stored``, in the Redis of ``INGEST_REDIS_URL``."""
    (folder / "source").mkdir(exist_ok=True)
    (folder / "source" / ".mounted").touch()  # an empty folder is refused; a hidden file is not listed
    raw: dict[str, Any] = {
        "name": "trial",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": "source"}},
        "destination": {"url": f"file://{folder}/stored"},
        "queue": {"batch_items": 5, "lease_s": 2},
        **changes,
    }
    config = folder / "config.json"
    config.write_text(json.dumps(raw))
    return create(config, manual_complete=manual_complete)


class Listing(PathProcessor[Params]):
    """Lists these paths; ``faults`` says before which path an error is raised, once."""

    def __init__(self, paths: list[str], faults: Mapping[str, Exception] | None = None) -> None:
        super().__init__(Params(), JobContext("j", "n", "2026-01-31", None, Path("/nowhere")))
        self.listed = paths
        self.faults = dict(faults or {})
        self.begun: list[str | None] = []

    def paths(self, after: str | None = None) -> Iterator[FileItem]:
        self.begun.append(after)
        for path in self.listed:
            if after is not None and path <= after:
                continue
            if path in self.faults:
                raise self.faults.pop(path)
            yield FileItem(path, 10)

    def path(self, item: Any) -> str:
        return str(item.name)


def feeder_of(job: Job, listing: Listing) -> Feeder:
    """A feeder of a job that takes its items from a listing."""
    processors = Processors(listing, job.processors().tile)
    return Feeder(job.config, job.ledger, job.queue, processors, job.keys(processors), job.context.grid)


def fed_items(job: Job) -> list[FileItem]:
    """The items of all batches that are recorded and not committed, in order."""
    _, counts, _ = job.ledger.snapshot()
    return [
        item
        for batch in range(counts.batches)
        for item in job.ledger.payload_items(batch) or ()
        if isinstance(item, FileItem)
    ]


def begin(job: Job, batch: int) -> Attempt:
    """An attempt that goes."""
    attempt = job.ledger.begin(batch)
    assert isinstance(attempt, Attempt), attempt
    return attempt


def commit_all(job: Job, done: int = 5) -> None:
    """Count every recorded batch as stored."""
    _, counts, _ = job.ledger.snapshot()
    for batch in range(counts.batches):
        job.ledger.commit(batch, Tally({"done": done}), part="t")


def state_of(job: Job) -> State:
    """The state in the ledger."""
    return job.ledger.state()


def feed(job: Job) -> None:
    """List all items of a job's own source."""
    processors = job.processors()
    feeder = Feeder(job.config, job.ledger, job.queue, processors, job.keys(processors), job.context.grid)
    while not job.status().counts.enumerated:
        feeder.step()


def work(job: Job) -> None:
    """Do every batch that is left."""
    with closing(make_kit(job, "n1")) as kit:
        for batch in job.ledger.uncommitted(job.status().counts.batches):
            run_batch(job, kit, batch)
