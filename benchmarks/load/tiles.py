"""Millions of tiles through the real queue, ledger and manifest, into a store that keeps only the manifest.

    python benchmarks/load/tiles.py [--tiles N] [--batch-items N] [--processes N] [--folder DIR] [--json FILE]

Says how fast it goes, whether the memory of each part stays flat, what Redis holds for a tile, what each part
spends of CPU, and how long the manifest takes and how much memory.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness import Table, machine, memory_folder, write_json
from running import Trial, run_job
from watching import MIB, ROLES, as_json, at_parts, completing_s, greatest, spent

from ingest.ledger import State

COLUMNS = 1000


def config_of(tiles: int, batch_items: int, folder: Path) -> dict[str, Any]:
    """A job of at least so many tiles."""
    rows = -(-tiles // COLUMNS)
    return {
        "name": "tiles",
        "ingest_job": {
            "type": "tiles",
            "extent": {"x": [0, COLUMNS * 512], "y": [0, rows * 512]},
            "tile_size": {"x": 512, "y": 512},
        },
        "path_processor": {"class": "load_tiles.Nowhere"},
        "tile_processor": {"class": "load_tiles.FewBytes"},
        "destination": {"url": f"file://{folder}/destination"},
        "queue": {"batch_items": batch_items},
    }


def memory_table(trial: Trial) -> Table:
    """Memory of each part (of two processes, the larger's) as the uploads begin, half way, and as they end."""
    table = Table(["RSS MiB", *ROLES, "Redis used MiB"])
    for part in (0.1, 0.5, 0.9):
        (sample,) = at_parts(trial.samples, part)
        cells = [f"{sample.rss_bytes[role] / MIB:.0f}" for role in ROLES]
        table.rows.append([f"{part:.0%} of the items", *cells, f"{sample.used_memory / MIB:.1f}"])
    last = [sample for sample in trial.samples if sample.state is State.COMPLETING]
    if last:
        cells = [
            f"{greatest(last, lambda sample, role=role: sample.rss_bytes[role]) / MIB:.0f}" for role in ROLES
        ]  # type: ignore[misc]
        used = greatest(last, lambda sample: sample.used_memory)
        table.rows.append(["manifest, at most", *cells, f"{used / MIB:.1f}"])
    return table


def figures(trial: Trial, tiles: int) -> dict[str, Any]:
    """What a trial found."""
    busy = spent(trial.samples)
    completing = [sample for sample in trial.samples if sample.state is State.COMPLETING]
    peak = greatest(trial.samples, lambda sample: sample.used_memory)
    uploading = [sample for sample in trial.samples if sample.state is State.UPLOADING]
    manifest_cpu_s = trial.samples[-1].cpu_s["coordinator"] - uploading[-1].cpu_s["coordinator"]
    return {
        "tiles": tiles,
        "wall_s": trial.wall_s,
        "items_per_s": busy.items_per_s,
        "cpu_us_per_item": busy.cpu_us,
        "our_cpu_us_per_item": busy.our_cpu_us,
        "redis_bytes_per_item": (peak - trial.redis_before_bytes) / tiles,
        "manifest_s": completing_s(trial.samples),
        "manifest_cpu_us_per_item": manifest_cpu_s / tiles * 1e6,
        "manifest_peak_rss_bytes": greatest(completing, lambda sample: sample.rss_bytes["coordinator"]),
    }


def run(tiles: int, batch_items: int, processes: int, folder: Path | None, every_s: float = 1.0) -> Trial:
    """The trial."""
    with TemporaryDirectory(prefix="ingest-load-", dir=folder) as name:
        config = config_of(tiles, batch_items, Path(name))
        trial = run_job(config, Path(name), processes=processes, every_s=every_s)
    done = trial.ended["items"]["done"]
    if done != -(-tiles // COLUMNS) * COLUMNS:
        raise RuntimeError(f"{done:,} of {tiles:,} tiles are done")
    return trial


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tiles", type=int, default=10_000_000)
    parser.add_argument("--batch-items", type=int, default=128)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, default=memory_folder(), help="for all files; default: in memory"
    )
    parser.add_argument("--every-s", type=float, default=1.0, help="seconds between samples")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args(arguments)
    facts = machine()
    trial = run(args.tiles, args.batch_items, args.processes, args.folder, args.every_s)
    found = figures(trial, args.tiles)
    cpu = ", ".join(f"{role} {us:.1f}" for role, us in found["cpu_us_per_item"].items())
    print(
        f"{args.tiles:,} tiles, {args.batch_items} a batch, {args.processes} processes: {trial.wall_s:.1f} s in all"
    )
    print(
        f"{found['items_per_s']:,.0f} tiles/s while it uploads; "
        f"{found['redis_bytes_per_item']:.2f} bytes of Redis a tile"
    )
    print(f"CPU us a tile: {found['our_cpu_us_per_item']:.1f} without Redis ({cpu})")
    print(
        f"manifest: {found['manifest_s']:.1f} s, {found['manifest_cpu_us_per_item']:.1f} us of CPU a tile, "
        f"{found['manifest_peak_rss_bytes'] / MIB:.0f} MiB at most\n"
    )
    print(memory_table(trial))
    write_json(args.json, {"machine": facts, **found, "samples": as_json(trial.samples)})


if __name__ == "__main__":
    main()
