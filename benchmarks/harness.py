"""What the benchmarks share: a real S3 server, and commands measured with all that they start."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ACCESS_KEY = "INGESTBENCHACCESSKEY"
SECRET_KEY = "ingest-bench-secret-key-0123456789"  # a benchmark server's
BUCKET = "bench"
SAMPLE_S = 0.1
WORTH_A_LOOK = 1.03
_PR_SET_CHILD_SUBREAPER = 36
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


# Commands, measured


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command took, with all processes that it started.

    Attributes:
        began_s: wall-clock time (Unix) at which it was started.
        wall_s: from its start to its exit.
        cpu_s: user and system time of all its processes, exact: by their exit records.
        peak_bytes: the largest sum of its processes' proportional memory (PSS) seen by sampling: a page that
            several of them share counts once.
    """

    began_s: float
    wall_s: float
    cpu_s: float
    peak_bytes: int


def become_reaper() -> None:
    """Make orphans of what this process starts its own children, so that their exit records come here."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def measure(
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    *,
    after: Callable[[], None] = lambda: None,
) -> Usage:
    """Run a command to its end, and count it with all that it started.

    Args:
        command: what to run; its output goes to ``log``.
        env: its whole environment.
        log: a file for its output and errors.
        after: ends what outlives the command (a server that it started); not part of the wall time.

    Raises:
        RuntimeError: it failed; the end of its output says why.
    """
    spared = children()
    sampler = _Sampler(spared)
    with log.open("wb") as out:
        began_s, start_s = time.time(), time.perf_counter()
        process = subprocess.Popen(command, env=dict(env), stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        with sampler:
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - start_s
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
    after()
    return Usage(began_s, wall_s, cpu_s + _reap(spared), sampler.peak_bytes)


def _reap(spared: set[int], within_s: float = 10.0) -> float:
    """The CPU seconds of orphans that have come to this process and end."""
    cpu_s, until_s = 0.0, time.monotonic() + within_s
    while left := children() - spared:
        for pid in left:
            ended, _, usage = os.wait4(pid, os.WNOHANG)
            cpu_s += (usage.ru_utime + usage.ru_stime) if ended else 0.0
        if time.monotonic() > until_s:
            raise RuntimeError(f"processes {sorted(left)} outlive their command")
        time.sleep(0.01)
    return cpu_s


def children(pid: int | str = "self") -> set[int]:
    """The processes that a process has started, and that have not ended."""
    found: set[int] = set()
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found.update(map(int, (task / "children").read_text().split()))
    return found


class _Sampler:
    """Adds up the memory of this process's descendants, save some, ten times a second.

    To ask for proportional memory makes the kernel walk a process's pages, which would slow down what is measured:
    it is asked for only where the resident memory, which costs nothing, is greater than it was the last time.
    """

    def __init__(self, spared: set[int]) -> None:
        self.peak_bytes = 0
        self._resident_bytes = 0.0
        self._spared = spared
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            left, pids = list(children() - self._spared), []
            while left:
                pids.append(left.pop())
                left += children(pids[-1])
            resident_bytes = sum(map(_resident_bytes, pids))
            if resident_bytes > self._resident_bytes * WORTH_A_LOOK:
                self._resident_bytes = resident_bytes
                self.peak_bytes = max(self.peak_bytes, sum(map(_proportional_bytes, pids)))


def _resident_bytes(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    return 0


def _proportional_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def busy_s() -> float:
    """CPU seconds for which this machine has been busy since it started, with whatever."""
    user, nice, system, _, _, irq, softirq, *_ = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(share: float, within_s: float) -> None:
    """Wait until others take no more than ``share`` of the machine's CPU for a second, at most ``within_s``."""
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        before_s = busy_s()
        time.sleep(1)
        if busy_s() - before_s <= share * len(os.sched_getaffinity(0)):
            return


def clean_env(**more: str) -> dict[str, str]:
    """This process's environment without what configures the tools, and with ``more``.

    ``PYTHONDONTWRITEBYTECODE`` goes too: where it is set and the packages have no bytecode, each start compiles
    them anew, which takes seconds.
    """
    ours = ("AWS_", "RCLONE_", "INGEST_", "S3_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


# The server


def memory_folder() -> Path | None:
    """A folder in memory, where the system has one, so that no disk is measured; else None, for the usual one."""
    folder = Path("/dev/shm")
    return folder if folder.is_dir() and os.access(folder, os.W_OK) else None


@dataclass(frozen=True, slots=True)
class Server:
    """A running S3 server, over a folder."""

    endpoint_url: str
    folder: Path
    pid: int

    def aws_env(self) -> dict[str, str]:
        """Credentials for it, and none of the user's own."""
        return clean_env(
            AWS_ACCESS_KEY_ID=ACCESS_KEY,
            AWS_SECRET_ACCESS_KEY=SECRET_KEY,
            AWS_REGION="us-east-1",
            AWS_CONFIG_FILE=os.devnull,
            AWS_SHARED_CREDENTIALS_FILE=os.devnull,
            AWS_EC2_METADATA_DISABLED="true",
        )

    def cpu_s(self) -> float:
        """CPU seconds that it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def arrivals(self, prefix: str) -> list[tuple[float, int]]:
        """When each object below a prefix was written (its file's ctime, Unix), in order, and its bytes."""
        found: list[tuple[float, int]] = []
        for folder, folders, names in os.walk(self.folder / BUCKET / prefix):
            folders[:] = [name for name in folders if name != ".ingest"]
            facts = [Path(folder, name).stat() for name in names]
            found += [(fact.st_ctime_ns / 1e9, fact.st_size) for fact in facts]
        return sorted(found)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """``rclone serve s3`` over a new folder, on a free port of this machine, with one bucket."""
    root = folder / "buckets"
    (root / BUCKET).mkdir(parents=True)
    port = free_port()
    command = ["rclone", "serve", "s3", "--config", str(folder / "rclone.conf"), "--vfs-cache-mode", "off"]
    command += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--addr", f"127.0.0.1:{port}", str(root)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=clean_env(), stdout=log, stderr=log)
    server = Server(f"http://127.0.0.1:{port}", root, process.pid)
    try:
        _await(server)
        yield server
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server that this process started; at once where it does not heed SIGTERM."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await(server: Server) -> None:
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(
            signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 20}
        ),
    )
    client.head_bucket(Bucket=BUCKET)
    client.close()


# Results


@dataclass(slots=True)
class Table:
    """Lines of a table, aligned: the first column to the left, the others to the right."""

    titles: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [self.titles, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.titles))]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": model[0].partition(":")[2].strip() if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def write_json(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write a result where one was asked for."""
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n")
