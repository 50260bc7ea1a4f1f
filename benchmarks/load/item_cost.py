"""What queue, ledger and manifest cost an item in CPU: a whole job, less the same batches stored without them.

    python benchmarks/load/item_cost.py [--tiles N] [--batch-items N] [--rounds N] [--json FILE]

Both go to a store that keeps nothing. The whole job is `ingest create` with a node of two processes; without queue,
ledger and manifest, one process gives batch after batch to the function that a node's process gives them to.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness import machine, memory_folder, write_json
from tiles import config_of, figures, run

from ingest.config import Settings
from ingest.creation import create
from ingest.redis_server import stop
from ingest.workers.batch import Batch, do_batch
from ingest.workers.kit import make_kit

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU an item.

    Attributes:
        whole_us: all processes but Redis, while the job uploads.
        manifest_us: of the coordinator, while it makes the manifest.
        alone_us: the batches without queue, ledger and manifest: processors, keys, hashes, threads.
        redis_us: Redis's own.
    """

    whole_us: float
    manifest_us: float
    alone_us: float
    redis_us: float

    @property
    def ours_us(self) -> float:
        """Queue, ledger and manifest together, without Redis."""
        return self.whole_us + self.manifest_us - self.alone_us


def alone(tiles: int, batch_items: int) -> float:
    """Microseconds of CPU an item for batches that no queue, ledger or manifest hears of: of two processes at once."""
    command = [sys.executable, __file__, "--alone", "--tiles", str(tiles), "--batch-items", str(batch_items)]
    env = {**os.environ, "PYTHONPATH": str(HERE / "null")}
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    if any(process.returncode for process in both):
        raise RuntimeError("the batches alone could not be measured")
    return sum(map(float, said)) / len(said)


def _alone(tiles: int, batch_items: int) -> float:
    """In this process, into whose stores the null store was put when it began."""
    with TemporaryDirectory(prefix="ingest-load-", dir=memory_folder()) as name:
        settings = Settings(
            state_dir=Path(name) / "state", redis_url=None, plugin_paths=str(HERE / "processors") + "/"
        )
        try:
            job = create(config_of(tiles, batch_items, Path(name)), settings=settings)
            kit = make_kit(job, "alone")
            assert job.context.grid is not None
            batches = [
                Batch(number, list(job.context.grid.tiles(number * batch_items, (number + 1) * batch_items)))
                for number in range(tiles // batch_items)
            ]
            do_batch(batches[0], kit)
            gc.freeze()  # as a node's process does
            began_s = time.process_time()
            for batch in batches:
                do_batch(batch, kit)
            return (time.process_time() - began_s) / (len(batches) * batch_items) * 1e6
        finally:
            stop(settings)


def measure(tiles: int, batch_items: int, every_s: float) -> Cost:
    """One round."""
    found = figures(run(tiles, batch_items, 2, memory_folder(), every_s), tiles)
    return Cost(
        found["our_cpu_us_per_item"],
        found["manifest_cpu_us_per_item"],
        alone(min(tiles, 100_000), batch_items),
        found["cpu_us_per_item"]["redis"],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tiles", type=int, default=400_000)
    parser.add_argument("--batch-items", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every-s", type=float, default=0.3, help="seconds between samples")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.alone:
        print(_alone(args.tiles, args.batch_items))
        return
    facts = machine()
    rounds = [measure(args.tiles, args.batch_items, args.every_s) for _ in range(args.rounds)]
    for cost in rounds:
        print(
            f"{cost.whole_us:.1f} us of CPU a tile for the whole job and {cost.manifest_us:.1f} for its manifest, "
            f"{cost.alone_us:.1f} for its batches alone; Redis {cost.redis_us:.1f}"
        )
    ours = median([cost.ours_us for cost in rounds])
    print(
        f"queue, ledger and manifest, at {args.batch_items} items a batch: {ours:.1f} us of CPU a tile (median)"
    )
    write_json(args.json, {"machine": facts, "rounds": [asdict(cost) for cost in rounds], "ours_us": ours})


if __name__ == "__main__":
    main()
