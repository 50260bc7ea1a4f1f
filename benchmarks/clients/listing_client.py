"""A job enumerated: ``listing_client.py tiles|files SCRATCH COUNT BATCH_ITEMS``.

The job is made as `ingest create` makes it, on a real private Redis with its append-only file, and fed by the
feeder into ledger and queue; nothing works on it and nothing is uploaded. Files are listed from a folder in SCRATCH,
which is made first. The last line says what was done, as JSON; ``running_s`` is from the feeder's first step to the
last batch queued, ``redis_bytes`` what Redis's ``used_memory`` grew by.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, cast

from ingest.config import Settings
from ingest.coordinator import Coordinator
from ingest.creation import create
from ingest.job import Job
from ingest.redis_server import stop

COLUMNS = 1000


def tiles(folder: Path, count: int) -> dict[str, Any]:
    """A job of that many tiles."""
    source = folder / "source"
    source.mkdir()
    (source / "0_0.png").touch()
    rows = -(-count // COLUMNS)
    return {
        "ingest_job": {
            "type": "tiles",
            "extent": {"x": [0, COLUMNS * 512], "y": [0, rows * 512]},
            "tile_size": {"x": 512, "y": 512},
        },
        "path_processor": {
            "class": "catmaid_files",
            "params": {"root_dir": str(source), "filetype": "png", "source_type": 5},
        },
        "tile_processor": {"class": "image", "params": {"format": "png"}},
    }


def files(folder: Path, count: int) -> dict[str, Any]:
    """A job of that many empty files."""
    source = folder / "source"
    for number in range(count):
        path = source / f"{number // 1000:06d}" / f"{number:09d}.bin"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.touch()
    return {
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": str(source)}},
    }


def enumerate_job(config: dict[str, Any], folder: Path, batch_items: int, count: int) -> dict[str, float]:
    """Make and feed a job, on a Redis of its own."""
    settings = Settings(state_dir=folder / "state", redis_url=None)
    # Twice as much room as is needed: the feeder waits until a tenth of it is free.
    queue = {"batch_items": batch_items, "max_batches": 2 * -(-count // batch_items) + 100}
    config |= {"name": "listing", "destination": {"url": f"file://{folder}/destination"}, "queue": queue}
    try:
        job = create(config, settings=settings)
        before_bytes, began_s = _memory(job), time.perf_counter()
        coordinator = Coordinator(job, "benchmark")
        while coordinator.step():
            pass
        running_s = time.perf_counter() - began_s
        _, counts, _ = job.ledger.snapshot()
        if not counts.enumerated or counts.items_listed != count or job.queue.waiting() != counts.batches:
            raise RuntimeError(f"only {counts.items_listed:,} of {count:,} items are listed and queued")
        return {"items": count, "running_s": running_s, "redis_bytes": _memory(job) - before_bytes}
    finally:
        stop(settings)


def _memory(job: Job) -> int:
    """Bytes that Redis uses now."""
    return cast("dict[str, int]", job.ledger.client.info("memory"))["used_memory"]


if __name__ == "__main__":
    kind, scratch, how_many, items_a_batch = (
        sys.argv[1],
        Path(sys.argv[2]),
        int(sys.argv[3]),
        int(sys.argv[4]),
    )
    made = {"tiles": tiles, "files": files}[kind](scratch, how_many)
    print(json.dumps(enumerate_job(made, scratch, items_a_batch, how_many)))
