"""Many small files to one S3 server: ``ingest create``, ``s5cmd cp`` and ``rclone copy``, in turns, in one run.

    python benchmarks/small_files.py [--rounds N] [--count-16k N] [--count-1m N] [--json FILE]

Each round runs each tool once, in an order that rotates, to a fresh prefix of one server. See README.md for
what is measured how.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from harness import (
    ACCESS_KEY,
    BUCKET,
    SECRET_KEY,
    Server,
    Table,
    Usage,
    become_reaper,
    busy_s,
    clean_env,
    machine,
    measure,
    median,
    memory_folder,
    ratio_text,
    ratios,
    serving,
    version_of,
    wait_for_quiet,
    write_json,
)

from ingest.config import Settings
from ingest.redis_client import connect
from ingest.redis_server import running

KIB, MIB = 1 << 10, 1 << 20
FILES_IN_FOLDER = 1000
LOOK_EVERY_S = 0.02
QUIET_SHARE = 0.15
"""A run is quiet where others took no more of the machine's CPU than this."""
WAIT_S = 20.0
"""How long a run waits for others to be quiet; then it begins anyway."""
CORES = len(os.sched_getaffinity(0))
TOOLS = ("ingest", "s5cmd", "rclone")
INGEST = str(Path(sys.executable).with_name("ingest"))


@dataclass(frozen=True, slots=True)
class Load:
    """Files to upload."""

    name: str
    folder: Path
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """One tool, once.

    Attributes:
        usage: of the whole command.
        server_cpu_s: CPU seconds of the server meanwhile.
        other_share: the share of the machine's CPU that others took meanwhile.
        first_s: from the command's start to the first object at the server.
        last_s: from the command's start to the last object at the server.
        begun_s: Ingest only: to its first batch begun.
        committed_s: Ingest only: to its last batch committed.
    """

    tool: str
    count: int
    size_bytes: int
    usage: Usage
    server_cpu_s: float
    other_share: float
    first_s: float
    last_s: float
    begun_s: float | None = None
    committed_s: float | None = None

    @property
    def whole_rate(self) -> float:
        """Objects a second over the whole command."""
        return self.count / self.usage.wall_s

    @property
    def arrival_rate(self) -> float:
        """Objects a second from the first that arrived to the last, by the server's clock."""
        return (self.count - 1) / (self.last_s - self.first_s)

    @property
    def running_rate(self) -> float:
        """Objects a second once the job is running: to the last commit. For others, the whole command."""
        if self.begun_s is None or self.committed_s is None:
            return self.whole_rate
        return self.count / (self.committed_s - self.begun_s)


class CommitClock:
    """Looks into a job's ledger, 50 times a second, for its first batch begun and its last committed."""

    def __init__(self, state_dir: Path) -> None:
        self._settings = Settings(state_dir=state_dir)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.begun_s: float | None = None
        self.committed_s: float | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while (server := running(self._settings)) is None:
            if self._stop.wait(LOOK_EVERY_S):
                return
        client = connect(server.url)
        while not self._stop.wait(LOOK_EVERY_S) and not (jobs := client.zrange("ingest:jobs", 0, 0)):
            pass
        key = f"ingest:{{{cast('list[bytes]', jobs)[0].decode()}}}"
        committed = 0
        while not self._stop.wait(LOOK_EVERY_S):
            with client.pipeline(transaction=False) as pipe:
                begun, now = pipe.exists(f"{key}:attempts").hget(key, "committed").execute()
            if begun and self.begun_s is None:
                self.begun_s = time.time()
            if int(now or 0) > committed:
                committed, self.committed_s = int(now), time.time()
        client.close()


def make_load(folder: Path, name: str, count: int, size_bytes: int) -> Load:
    """Files of random bytes, a thousand in a folder."""
    source = random.Random(name)
    root = folder / f"source-{name}"
    for number in range(count):
        path = root / f"{number // FILES_IN_FOLDER:03d}" / f"{number:06d}.bin"
        if number % FILES_IN_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(source.randbytes(size_bytes))
    return Load(name, root, count, size_bytes)


def run_ingest(load: Load, server: Server, prefix: str, scratch: Path) -> Run:
    """``ingest create`` with its defaults and a Redis of its own, which the command itself starts."""
    config = {
        "name": "bench",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": str(load.folder)}},
        "destination": {"url": f"s3://{BUCKET}/{prefix}", "endpoint_url": server.endpoint_url},
    }
    path, state_dir = scratch / "config.json", scratch / "state"
    path.write_text(json.dumps(config))
    env = server.aws_env() | {"INGEST_STATE_DIR": str(state_dir)}
    clock = CommitClock(state_dir)

    def down() -> None:
        clock.stop()
        subprocess.run([INGEST, "down"], env=env, check=True, capture_output=True)

    clock.start()
    command = [INGEST, "create", str(path), "--yes", "--json"]
    return _run("ingest", load, server, prefix, command, env, scratch, clock=clock, after=down)


def run_s5cmd(load: Load, server: Server, prefix: str, scratch: Path) -> Run:
    """``s5cmd cp`` with its defaults (256 workers)."""
    command = ["s5cmd", "--endpoint-url", server.endpoint_url, "cp"]
    command += [f"{load.folder}/", f"s3://{BUCKET}/{prefix}/"]
    return _run("s5cmd", load, server, prefix, command, server.aws_env(), scratch)


def run_rclone(load: Load, server: Server, prefix: str, scratch: Path) -> Run:
    """``rclone copy`` with 32 transfers at once."""
    env = clean_env(
        RCLONE_CONFIG=os.devnull,
        RCLONE_CONFIG_BENCH_TYPE="s3",
        RCLONE_CONFIG_BENCH_PROVIDER="Rclone",
        RCLONE_CONFIG_BENCH_ACCESS_KEY_ID=ACCESS_KEY,
        RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY=SECRET_KEY,
        RCLONE_CONFIG_BENCH_ENDPOINT=server.endpoint_url,
        RCLONE_CONFIG_BENCH_NO_CHECK_BUCKET="true",
    )
    command = ["rclone", "copy", "--transfers", "32", "--checkers", "32", "--stats", "0"]
    command += [str(load.folder), f"bench:{BUCKET}/{prefix}"]
    return _run("rclone", load, server, prefix, command, env, scratch)


RUNNERS: dict[str, Callable[[Load, Server, str, Path], Run]] = {
    "ingest": run_ingest,
    "s5cmd": run_s5cmd,
    "rclone": run_rclone,
}


def _run(
    tool: str,
    load: Load,
    server: Server,
    prefix: str,
    command: Sequence[str],
    env: dict[str, str],
    scratch: Path,
    *,
    clock: CommitClock | None = None,
    after: Callable[[], None] = lambda: None,
) -> Run:
    before_s, busy_before_s = server.cpu_s(), busy_s()
    usage = measure(command, env, scratch / "log", after=after)
    server_cpu_s, all_cpu_s = server.cpu_s() - before_s, busy_s() - busy_before_s
    other_cpu_s = max(0.0, all_cpu_s - usage.cpu_s - server_cpu_s)
    arrived = server.arrivals(prefix)
    shutil.rmtree(server.folder / BUCKET / prefix)
    if len(arrived) != load.count or any(size != load.size_bytes for _, size in arrived):
        raise RuntimeError(f"{tool} stored {len(arrived)} objects of {load.count}, or of other sizes")
    began_s = usage.began_s
    begun_s, committed_s = (clock.begun_s, clock.committed_s) if clock else (None, None)
    return Run(
        tool,
        load.count,
        load.size_bytes,
        usage,
        server_cpu_s,
        other_cpu_s / (usage.wall_s * CORES),
        arrived[0][0] - began_s,
        arrived[-1][0] - began_s,
        begun_s - began_s if begun_s else None,
        committed_s - began_s if committed_s else None,
    )


def run_rounds(
    load: Load, server: Server, rounds: int, tools: Sequence[str], folder: Path
) -> list[list[Run]]:
    """Each tool once a round, in an order that rotates."""
    made: list[list[Run]] = []
    for number in range(rounds):
        turn = number % len(tools)
        order = [*tools[turn:], *tools[:turn]]
        runs: dict[str, Run] = {}
        for tool in order:
            wait_for_quiet(QUIET_SHARE, WAIT_S)
            with TemporaryDirectory(dir=folder) as scratch:
                runs[tool] = RUNNERS[tool](load, server, f"{load.name}-{number}-{tool}", Path(scratch))
            print(f"  round {number + 1}: {tool} {runs[tool].usage.wall_s:.2f} s", file=sys.stderr)
        made.append([runs[tool] for tool in tools])
    return made


def tool_table(rounds: list[list[Run]]) -> Table:
    """Medians of each tool."""
    rates = ["objects/s", "MiB/s", "running objects/s", "arrival objects/s"]
    table = Table(["tool", "wall s", *rates, "CPU s", "server CPU s", "others' CPU", "peak RSS MiB"])
    for runs in zip(*rounds, strict=True):
        whole = median([run.whole_rate for run in runs])
        table.rows.append(
            [
                runs[0].tool,
                f"{median([run.usage.wall_s for run in runs]):.2f}",
                f"{whole:,.0f}",
                f"{whole * runs[0].size_bytes / MIB:.1f}",
                f"{median([run.running_rate for run in runs]):,.0f}",
                f"{median([run.arrival_rate for run in runs]):,.0f}",
                f"{median([run.usage.cpu_s for run in runs]):.2f}",
                f"{median([run.server_cpu_s for run in runs]):.2f}",
                f"{median([run.other_share for run in runs]):.0%}",
                f"{median([run.usage.peak_rss_bytes for run in runs]) / MIB:.0f}",
            ]
        )
    return table


def ratio_table(rounds: list[list[Run]]) -> tuple[Table, dict[str, dict[str, list[float]]]]:
    """Ingest's rates to each other tool's, pair by pair: median (least-greatest)."""
    table = Table(["ingest to", "whole", "once running", "arrival to arrival", "CPU"])
    ours, *others = zip(*rounds, strict=True)
    figures: dict[str, dict[str, list[float]]] = {}
    for theirs in others:
        pairs = {
            "whole": ratios([r.whole_rate for r in ours], [r.whole_rate for r in theirs]),
            "running": ratios([r.running_rate for r in ours], [r.whole_rate for r in theirs]),
            "arrival": ratios([r.arrival_rate for r in ours], [r.arrival_rate for r in theirs]),
            "cpu": ratios([r.usage.cpu_s for r in ours], [r.usage.cpu_s for r in theirs]),
        }
        figures[theirs[0].tool] = pairs
        table.rows.append([theirs[0].tool, *(ratio_text(values) for values in pairs.values())])
    return table, figures


def phases(rounds: list[list[Run]]) -> str:
    """Where the seconds of ``ingest create`` lie, as medians."""
    runs = [run for made in rounds for run in made if run.tool == "ingest"]
    to_begin = median([run.begun_s or 0 for run in runs])
    to_first = median([run.first_s for run in runs])
    working = median([(run.committed_s or 0) - (run.begun_s or 0) for run in runs])
    to_exit = median([run.usage.wall_s - (run.committed_s or 0) for run in runs])
    return (
        f"ingest: {to_begin:.2f} s to the first batch ({to_first:.2f} s to the first object), "
        f"{working:.2f} s to the last commit, {to_exit:.2f} s to the exit"
    )


def report(load: Load, rounds: list[list[Run]]) -> dict[str, Any]:
    """Print a load's tables; its figures."""
    print(f"\n{load.count:,} files of {load.size_bytes // KIB:,} KiB, {len(rounds)} rounds, medians\n")
    print(tool_table(rounds), end="\n\n")
    table, figures = ratio_table(rounds)
    print(table, end="\n\n")
    quiet = [runs for runs in rounds if all(run.other_share <= QUIET_SHARE for run in runs)]
    if quiet:
        print(f"the {len(quiet)} rounds in which others took at most {QUIET_SHARE:.0%} of the CPU\n")
        print(ratio_table(quiet)[0], end="\n\n")
    print(phases(rounds), flush=True)
    return {
        "count": load.count,
        "size_bytes": load.size_bytes,
        "rounds": [[asdict(run) for run in runs] for runs in rounds],
        "ratios": figures,
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count-16k", type=int, default=8000)
    parser.add_argument("--count-1m", type=int, default=300)
    parser.add_argument("--tools", default=",".join(TOOLS), help="which tools, ingest first")
    parser.add_argument("--folder", type=Path, help="for all files; by default in memory (/dev/shm)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    tools = args.tools.split(",")
    become_reaper()
    facts = machine()
    versions = {"s5cmd": version_of("s5cmd", "version"), "rclone": version_of("rclone", "version")}
    result: dict[str, Any] = {"machine": facts, "versions": versions, "loads": []}
    folder = args.folder or memory_folder()
    with TemporaryDirectory(prefix="ingest-bench-", dir=folder) as name, serving(Path(name)) as server:
        for label, count, size_bytes in (("16k", args.count_16k, 16 * KIB), ("1m", args.count_1m, MIB)):
            if count:
                load = make_load(Path(name), label, count, size_bytes)
                result["loads"].append(report(load, run_rounds(load, server, args.rounds, tools, Path(name))))
                write_json(args.json, result)


if __name__ == "__main__":
    main()
