"""Whole jobs in one process, on a real Redis: what they store, and what their finishers make of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ingest.creation import create
from ingest.job import Job
from ingest.ledger import State
from ingest.workers.kit import make_kit
from ingest.workers.tasks import run_batch
from tests.engine.jobs_by_hand import feed


def job_of(folder: Path, files: Mapping[str, bytes], destination: Mapping[str, Any], **changes: Any) -> Job:
    """A job over these files, in a folder of its own, whose items are listed."""
    root = folder / f"source-{len([*folder.iterdir()])}"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    config = {
        "name": "trial",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": str(root), "hidden": True}},
        "destination": dict(destination),
        "queue": {"batch_items": 3},
        "upload": {"threads": 4, "multipart_threshold_bytes": 5 << 20, "part_size_bytes": 5 << 20},
        **changes,
    }
    job = create(config)
    feed(job)
    return job


def do(job: Job, *batches: int) -> None:
    """Do these batches, or all that are left."""
    kit = make_kit(job, "n1")
    for batch in batches or [*job.ledger.uncommitted(job.status().counts.batches)]:
        run_batch(job, kit, batch)
    kit.close()


def done(folder: Path, files: Mapping[str, bytes], destination: Mapping[str, Any], **changes: Any) -> Job:
    """A job over these files, that is complete."""
    job = job_of(folder, files, destination, **changes)
    do(job)
    assert job.complete() is State.COMPLETE, [*job.failures()]
    return job


def download(job: Job, copy: Path) -> Path:
    """A copy of everything below a job's destination, with the manifests; where it is."""
    for info in [*job.store.list(), *job.store.list(".ingest/")]:
        path = copy / info.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(job.store.read_bytes(info.key))
    return copy
