"""Very many small files: how fast they are listed and queued, what Redis holds for each, and how fast they go.

    python benchmarks/load/files.py [--files N] [--size-bytes N] [--real] [--folder DIR] [--json FILE]

First a feeder alone lists all of them into ledger and queue; then a job takes them to a store that keeps nothing, or
(`--real`) to a folder.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness import machine, memory_folder, write_json
from running import Trial, run_job
from tiles import memory_table
from watching import MIB, as_json, spent

from ingest.config import Settings
from ingest.coordinator import Coordinator
from ingest.creation import create
from ingest.job import Job
from ingest.redis_server import stop

FILES_IN_FOLDER = 1000


@dataclass(frozen=True, slots=True)
class Fed:
    """What listing and queueing took.

    Attributes:
        grown_bytes: by how much this process's peak memory grew.
        redis_bytes: by how much Redis's used memory grew, with every file queued and none done.
    """

    files: int
    wall_s: float
    cpu_s: float
    grown_bytes: int
    redis_bytes: int


def make_files(root: Path, files: int, size_bytes: int) -> None:
    """So many files, a thousand in a folder; their contents differ."""
    for number in range(files):
        path = root / f"{number // FILES_IN_FOLDER:04d}" / f"{number:07d}.bin"
        if number % FILES_IN_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(number.to_bytes(8, "big") * (size_bytes // 8))


def config_of(root: Path, folder: Path) -> dict[str, Any]:
    """A job over those files."""
    return {
        "name": "files",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": str(root)}},
        "destination": {"url": f"file://{folder}/destination"},
    }


def feed(root: Path, files: int, folder: Path) -> Fed:
    """List and queue all of them, with nobody to work on them."""
    settings = Settings(state_dir=folder / "feed", redis_url=None)
    config = {**config_of(root, folder), "queue": {"max_batches": files}}
    try:
        job = create(config, settings=settings)
        coordinator = Coordinator(job, "benchmark")
        before, peak = _used_memory(job), _peak_bytes()
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        while coordinator.step():
            pass
        wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        _, counts, _ = job.ledger.snapshot()
        if not counts.enumerated or counts.items_listed != files:
            raise RuntimeError(f"{counts.items_listed:,} of {files:,} files are listed")
        return Fed(files, wall_s, cpu_s, _peak_bytes() - peak, _used_memory(job) - before)
    finally:
        stop(settings)


def _used_memory(job: Job) -> int:
    return cast("dict[str, int]", job.ledger.client.info("memory"))["used_memory"]


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def run(
    files: int, size_bytes: int, *, null_store: bool, folder: Path | None, every_s: float = 1.0
) -> tuple[Fed, Trial]:
    """Both halves of the trial."""
    with TemporaryDirectory(prefix="ingest-load-", dir=folder) as name:
        root = Path(name) / "source"
        make_files(root, files, size_bytes)
        fed = feed(root, files, Path(name))
        config = config_of(root, Path(name))
        trial = run_job(config, Path(name), processes=2, null_store=null_store, every_s=every_s)
    done = trial.ended["items"]["done"]
    if done != files:
        raise RuntimeError(f"{done:,} of {files:,} files are done")
    return fed, trial


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=300_000)
    parser.add_argument("--size-bytes", type=int, default=4096)
    parser.add_argument(
        "--real", action="store_true", help="to a folder, each file synced, instead of nowhere"
    )
    parser.add_argument(
        "--folder", type=Path, default=memory_folder(), help="for all files; default: in memory"
    )
    parser.add_argument("--every-s", type=float, default=1.0, help="seconds between samples")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args(arguments)
    facts = machine()
    fed, trial = run(
        args.files, args.size_bytes, null_store=not args.real, folder=args.folder, every_s=args.every_s
    )
    print(
        f"{fed.files:,} files listed and queued: {fed.files / fed.wall_s:,.0f} files/s, "
        f"{fed.cpu_s / fed.files * 1e6:.1f} us of CPU and {fed.redis_bytes / fed.files:.1f} bytes of Redis a file, "
        f"the feeder grew by {fed.grown_bytes / MIB:.0f} MiB"
    )
    busy = spent(trial.samples)
    print(
        f"{'a folder' if args.real else 'nowhere'}: {busy.items_per_s:,.0f} files/s while it uploads, "
        f"{trial.wall_s:.1f} s in all; {busy.our_cpu_us:.1f} us of CPU a file without Redis\n"
    )
    print(memory_table(trial))
    write_json(
        args.json,
        {"machine": facts, "fed": asdict(fed), "spent": asdict(busy), "samples": as_json(trial.samples)},
    )


if __name__ == "__main__":
    main()
