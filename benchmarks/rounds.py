"""Cases run in rounds: each tool once a round, in an order that rotates, and what each run took."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import BUCKET, Server, busy_s, measure, memory_folder, serving, wait_for_quiet
from nginx_server import serving_nginx
from tools import CORES, Command, Tool
from works import Work, check_tiles

QUIET_SHARE = 0.15
"""A run waits until others take no more of the machine's CPU than this,"""
WAIT_S = 20.0
"""but no longer than this."""
SERVERS = {"nginx": serving_nginx, "rclone": serving}


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: work, servers and tools. The first tool is Ingest.

    Attributes:
        make: makes the work in a folder, of a size (how many files, sections or items).
        before: the prefix of a run is filled by this tool first; None where it is to be empty.
        on_disk: too large for memory.
    """

    name: str
    title: str
    size: int
    make: Callable[[Path, int], Work]
    tools: Mapping[str, Tool]
    servers: Sequence[str]
    before: Mapping[str, Tool] = field(default_factory=dict)
    on_disk: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One tool, once.

    Attributes:
        size: of the case.
        items: objects stored, looked at, or listed.
        size_bytes: of the items; 0 where they are none.
        wall_s: the whole command, from its start to its exit.
        cpu_s: user and system time of all its processes.
        peak_bytes: the largest sum of its processes' memory.
        running_s: without its start and its end; None where that is not seen from outside.
        server_cpu_s: CPU seconds of the server meanwhile.
        other_share: the share of the machine's CPU that others took meanwhile.
        lost: objects that were not there afterwards, though the command had ended with 0.
    """

    case: str
    server: str
    size: int
    round: int
    tool: str
    items: int
    size_bytes: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    running_s: float | None
    server_cpu_s: float
    other_share: float
    lost: int = 0

    @property
    def whole_rate(self) -> float:
        """Items a second over the whole command."""
        return self.items / self.wall_s

    @property
    def running_rate(self) -> float:
        """Items a second once it runs; over the whole command where that is not seen from outside."""
        return self.items / (self.running_s or self.wall_s)


def run_case(
    case: Case, *, size: int | None, servers: Sequence[str], tools: Sequence[str], rounds: range
) -> Iterator[Run]:
    """The rounds of a case on each of its servers, run by run.

    Raises:
        RuntimeError: a tool failed, or stored not what it should have.
    """
    size = size or case.size
    folder = None if case.on_disk else memory_folder()
    with TemporaryDirectory(prefix="ingest-bench-", dir=folder) as name:
        work = case.make(Path(name) / "source", size)
        for server_name in servers:
            home = Path(name) / server_name
            home.mkdir()
            with SERVERS[server_name](home) as server:
                place = _Place(case, size, work, server_name, server, Path(name))
                place.fill(tools)
                for number in rounds:
                    yield from place.round(number, tools)
            shutil.rmtree(home)


@dataclass(frozen=True, slots=True)
class _Place:
    """A case on one server."""

    case: Case
    size: int
    work: Work
    server_name: str
    server: Server
    folder: Path

    def round(self, number: int, tools: Sequence[str]) -> Iterator[Run]:
        """Each tool once."""
        turn = number % len(tools)
        for tool in (*tools[turn:], *tools[:turn]):
            wait_for_quiet(QUIET_SHARE, WAIT_S)
            with TemporaryDirectory(dir=self.folder) as scratch:
                run = self._run(number, tool, Path(scratch))
            print(
                f"  {self.case.name}, {self.server_name}, round {number + 1}: {tool} {run.wall_s:.2f} s",
                file=sys.stderr,
            )
            yield run

    def fill(self, tools: Sequence[str]) -> None:
        """What is there before the first round, where the case wants it: each tool's by itself."""
        for tool in tools if self.case.before else ():
            with TemporaryDirectory(dir=self.folder) as scratch:
                command = self.case.before[tool](self.work, self.server, tool, Path(scratch))
                _measure(command, Path(scratch))
                if self._lost(tool, self.work.objects, since_s=0):
                    raise RuntimeError(f"{tool} has not filled its prefix")

    def _run(self, number: int, tool: str, scratch: Path) -> Run:
        prefix = tool if self.case.before else f"{number}-{tool}"
        command = self.case.tools[tool](self.work, self.server, prefix, scratch)
        server_before_s, busy_before_s = self.server.cpu_s(), busy_s()
        usage, said = _measure(command, scratch)
        server_cpu_s, all_cpu_s = self.server.cpu_s() - server_before_s, busy_s() - busy_before_s
        wanted = command.objects or self.work.objects
        lost = self._lost(prefix, wanted, since_s=usage.began_s if self.case.before else 0)
        if lost and tool == "ingest":
            raise RuntimeError(f"{prefix}: {lost} of {wanted} objects are missing")
        if self.work.sections:
            below = self.server.folder / BUCKET / prefix
            stored = [path for path in below.rglob("*") if path.is_file() and ".ingest" not in path.parts]
            check_tiles(self.work, stored)
        if not self.case.before:
            shutil.rmtree(self.server.folder / BUCKET / prefix)
        return Run(
            case=self.case.name,
            server=self.server_name,
            size=self.size,
            round=number,
            tool=tool,
            items=wanted,
            size_bytes=self.work.size_bytes or 0,
            wall_s=usage.wall_s,
            cpu_s=usage.cpu_s,
            peak_bytes=usage.peak_bytes,
            running_s=said.get("running_s") or (command.clock.running_s if command.clock else None),
            server_cpu_s=server_cpu_s,
            other_share=max(0.0, all_cpu_s - usage.cpu_s - server_cpu_s) / (usage.wall_s * CORES),
            lost=lost,
        )

    def _lost(self, prefix: str, wanted: int, *, since_s: float) -> int:
        """How many objects are missing below a prefix.

        Raises:
            RuntimeError: there are too many, or other bytes; or one was written after ``since_s`` (Unix).
        """
        there = self.server.arrivals(prefix)
        lost, size_bytes = wanted - len(there), sum(size for _, size in there)
        if lost < 0 or (not lost and self.work.size_bytes not in (None, size_bytes)):
            raise RuntimeError(f"{prefix}: {len(there)} objects of {wanted}, {size_bytes} bytes")
        if since_s and there[-1][0] > since_s:
            raise RuntimeError(f"{prefix}: an object was written again")
        return lost


def _measure(command: Command, scratch: Path) -> tuple[Any, dict[str, float]]:
    log = scratch / "log"
    if command.clock:
        command.clock.start()
    usage = measure(command.argv, command.env, log, after=command.after)
    said: dict[str, float] = json.loads(log.read_text().splitlines()[-1]) if command.says else {}
    return usage, said


def run_listing(
    case: str, tools: Mapping[str, tuple[int, Callable[[Path, int], Command]]], rounds: range
) -> Iterator[Run]:
    """A case without a server: each tool lists its number of items into its queue, once a round."""
    names = list(tools)
    for number in rounds:
        turn = number % len(names)
        for tool in (*names[turn:], *names[:turn]):
            wait_for_quiet(QUIET_SHARE, WAIT_S)
            size, make = tools[tool]
            with TemporaryDirectory(dir=memory_folder()) as scratch:
                busy_before_s = busy_s()
                usage, said = _measure(make(Path(scratch), size), Path(scratch))
                others_s = max(0.0, busy_s() - busy_before_s - usage.cpu_s)
            print(f"  {case}, round {number + 1}: {tool} {usage.wall_s:.2f} s", file=sys.stderr)
            yield Run(
                case=case,
                server="",
                size=0,
                round=number,
                tool=tool,
                items=int(said["items"]),
                size_bytes=0,
                wall_s=usage.wall_s,
                cpu_s=usage.cpu_s,
                peak_bytes=usage.peak_bytes,
                running_s=said["running_s"],
                server_cpu_s=0.0,
                other_share=others_s / (usage.wall_s * CORES),
            )


class Results:
    """The runs of a JSON file, to which more are added: a case may be run a round at a time."""

    def __init__(self, path: Path | None, about: Callable[[], Mapping[str, Any]]) -> None:
        self._path = path
        self._about = about
        known = json.loads(path.read_text()) if path is not None and path.exists() else {"runs": []}
        self.runs = [Run(**run) for run in known["runs"]]

    def next_round(self, case: str) -> int:
        """The number of the first round of a case that is still to be run."""
        return max((run.round + 1 for run in self.runs if run.case == case), default=0)

    def add(self, runs: Sequence[Run]) -> None:
        """Add a whole round's runs, and write the file."""
        self.runs.extend(runs)
        if self._path is not None:
            self._path.write_text(
                json.dumps({**self._about(), "runs": [asdict(run) for run in self.runs]}, indent=1) + "\n"
            )
