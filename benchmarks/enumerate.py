"""A job of ten million tiles, enumerated: tiles a second, and bytes of Redis a tile.

    python benchmarks/enumerate.py [--tiles N] [--batch-items N,N] [--rounds N] [--json FILE]

The job is made as `ingest create` makes it, on a real private Redis with its append-only file, and fed by the
feeder into ledger and queue; nothing works on it and nothing is uploaded.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from harness import Table, machine, median, write_json

from ingest.config import Settings
from ingest.coordinator import Coordinator
from ingest.creation import create
from ingest.job import Job
from ingest.queue import queue_name
from ingest.redis_server import stop

COLUMNS = 1000


@dataclass(frozen=True, slots=True)
class Enumerated:
    """One job's enumeration.

    Attributes:
        create_s: to make the job: checks, the destination's probe, its record.
        feed_s: from the first step of the feeder to the last batch queued.
        feed_cpu_s: of that, CPU seconds of this process; Redis has its own.
        redis_bytes: what Redis's ``used_memory`` grew by.
        queue_bytes: of that, the queue's own key, by ``MEMORY USAGE``.
    """

    tiles: int
    batch_items: int
    batches: int
    create_s: float
    feed_s: float
    feed_cpu_s: float
    redis_bytes: int
    queue_bytes: int


def config_of(tiles: int, batch_items: int, folder: Path) -> dict[str, Any]:
    """A job of at least that many tiles, all of which may be queued at once."""
    source = folder / "tiles"
    source.mkdir(exist_ok=True)
    (source / "0_0.png").touch()
    rows = -(-tiles // COLUMNS)
    return {
        "name": "enumerate",
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
        "destination": {"url": f"file://{folder}/destination"},
        "queue": {"batch_items": batch_items, "max_batches": -(-rows * COLUMNS // batch_items)},
    }


def enumerate_tiles(tiles: int, batch_items: int) -> Enumerated:
    """Make and feed a job, on a Redis of its own."""
    with TemporaryDirectory(prefix="ingest-bench-") as name:
        settings = Settings(state_dir=Path(name) / "state", redis_url=None)
        try:
            return _enumerate(config_of(tiles, batch_items, Path(name)), settings)
        finally:
            stop(settings)


def _enumerate(config: dict[str, Any], settings: Settings) -> Enumerated:
    create({**config, "queue": {"batch_items": 1}}, settings=settings)  # scripts and code are loaded now
    began_s = time.perf_counter()
    job = create(config, settings=settings)
    create_s = time.perf_counter() - began_s
    redis_bytes = _memory(job)
    coordinator = Coordinator(job, "benchmark")
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    while coordinator.step():
        pass
    feed_s, feed_cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    redis_after = _memory(job)
    _, counts, _ = job.ledger.snapshot()
    if not counts.enumerated or counts.items_listed != counts.items_total:
        raise RuntimeError(f"only {counts.items_listed:,} of {counts.items_total:,} tiles are enumerated")
    if job.queue.waiting() != counts.batches:
        raise RuntimeError(f"{job.queue.waiting():,} of {counts.batches:,} batches are queued")
    return Enumerated(
        tiles=counts.items_total,
        batch_items=job.config.queue.batch_items,
        batches=counts.batches,
        create_s=create_s,
        feed_s=feed_s,
        feed_cpu_s=feed_cpu_s,
        redis_bytes=redis_after - redis_bytes,
        queue_bytes=_key_bytes(job, queue_name(job.job_id)),
    )


def _memory(job: Job) -> int:
    """Bytes that Redis uses now."""
    return cast("dict[str, int]", job.ledger.client.info("memory"))["used_memory"]


def _key_bytes(job: Job, key: str) -> int:
    return int(cast("int | None", job.ledger.client.memory_usage(key, samples=0)) or 0)


def report(runs: list[list[Enumerated]]) -> Table:
    """A line for each size of batch; medians."""
    cost = ["create s", "feed s", "CPU s", "tiles/s", "Redis bytes/tile", "of it the queue"]
    table = Table(["batch items", "batches", "tiles", *cost])
    for made in runs:
        first, feed_s = made[0], median([run.feed_s for run in made])
        table.rows.append(
            [
                f"{first.batch_items:,}",
                f"{first.batches:,}",
                f"{first.tiles:,}",
                f"{median([run.create_s for run in made]):.2f}",
                f"{feed_s:.2f}",
                f"{median([run.feed_cpu_s for run in made]):.2f}",
                f"{first.tiles / feed_s:,.0f}",
                f"{median([run.redis_bytes for run in made]) / first.tiles:.2f}",
                f"{median([run.queue_bytes for run in made]) / first.tiles:.2f}",
            ]
        )
    return table


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tiles", type=int, default=10_000_000)
    parser.add_argument("--batch-items", default="512,128", help="sizes of batches to try")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    sizes = [int(size) for size in args.batch_items.split(",")]
    facts = machine()
    runs: list[list[Enumerated]] = [[] for _ in sizes]
    for number in range(args.rounds):
        for size, made in zip(sizes, runs, strict=True):
            made.append(enumerate_tiles(args.tiles, size))
            print(f"  round {number + 1}: {size} items a batch, {made[-1].feed_s:.2f} s", file=sys.stderr)
    print(report(runs))
    figures = [[asdict(run) for run in made] for made in runs]
    write_json(args.json, {"machine": facts, "runs": figures})


if __name__ == "__main__":
    main()
