"""One very large file in bounded memory.

    python benchmarks/load/large_file.py [--gib N] [--to null|folder|s3] [--folder DIR] [--json FILE]

The source is sparse, so it takes no room; what is stored does (`folder`), or passes through the server's memory (`s3`:
`rclone serve s3` keeps the parts of an upload there until it is completed, so give it no more than it has).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness import BUCKET, machine, serving, write_json
from running import Trial, run_job
from watching import MIB, ROLES, as_json, greatest

GIB = 1 << 30
MARK_EVERY_BYTES = 512 * MIB


def make_file(path: Path, size_bytes: int) -> None:
    """A sparse file with a mark here and there, so that no two parts of it are taken for one another."""
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for place in range(0, size_bytes, MARK_EVERY_BYTES):
            os.pwrite(file.fileno(), place.to_bytes(8, "big"), place)


def run(size_bytes: int, to: str, folder: Path | None, every_s: float = 1.0) -> Trial:
    """The trial."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory(prefix="ingest-load-", dir=folder)))
        make_file(root / "source" / "large.bin", size_bytes)
        destination: dict[str, Any] = {"url": f"file://{root}/destination"}
        env: Mapping[str, str] = {}
        if to == "s3":
            server = stack.enter_context(serving(root))
            destination = {"url": f"s3://{BUCKET}/large", "endpoint_url": server.endpoint_url}
            env = {name: text for name, text in server.aws_env().items() if name.startswith("AWS_")}
        config = {
            "name": "large",
            "ingest_job": {"type": "files"},
            "path_processor": {"class": "folder", "params": {"root_dir": str(root / "source")}},
            "destination": destination,
        }
        trial = run_job(config, root, processes=1, null_store=to == "null", every_s=every_s, env=env)
    stored = trial.ended["bytes"]["stored"]
    if stored != size_bytes:
        raise RuntimeError(f"{stored:,} of {size_bytes:,} bytes are stored")
    return trial


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gib", type=float, default=20)
    parser.add_argument("--to", choices=["null", "folder", "s3"], default="folder")
    parser.add_argument("--folder", type=Path, help="for all files; default: the system's for passing files")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args(arguments)
    facts, size_bytes = machine(), int(args.gib * GIB)
    trial = run(size_bytes, args.to, args.folder)
    print(
        f"one file of {args.gib:g} GiB to {args.to}: {trial.wall_s:.1f} s, {size_bytes / MIB / trial.wall_s:,.0f} MiB/s"
    )
    peaks = {
        role: greatest(trial.samples, lambda sample, role=role: sample.rss_bytes[role]) for role in ROLES
    }  # type: ignore[misc]
    print("peak RSS MiB: " + ", ".join(f"{role} {peak / MIB:.0f}" for role, peak in peaks.items()))
    write_json(
        args.json,
        {"machine": facts, "wall_s": trial.wall_s, "peaks": peaks, "samples": as_json(trial.samples)},
    )


if __name__ == "__main__":
    main()
