"""Real commands as real processes: a job's nodes, started, watched and killed by the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import psutil

TIMEOUT_S = 90.0


class Command:
    """An ``ingest`` command that runs, with the JSON events it has printed so far."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ingest.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.events: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        for reader in self._readers:
            reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.events.append(json.loads(line))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def wait_for(
        self, happened: Callable[[dict[str, Any]], bool], timeout_s: float = TIMEOUT_S
    ) -> dict[str, Any]:
        """The first event for which ``happened`` is true."""
        give_up_s = time.monotonic() + timeout_s
        while time.monotonic() < give_up_s:
            for event in list(self.events):
                if happened(event):
                    return event
            if self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers):
                break
            time.sleep(0.02)
        raise AssertionError(
            f"it did not happen; the last events: {self.events[-2:]}\n{''.join(self.errors)}"
        )

    @property
    def job_id(self) -> str:
        """The ID of the job that this command created."""
        return str(self.wait_for(lambda event: event["event"] == "created")["job_id"])

    def progressed(self, items: int) -> dict[str, Any]:
        """The first progress with at least so many items finished."""
        return self.wait_for(lambda event: "items" in event and finished(event) >= items)

    def exit_code(self, timeout_s: float = TIMEOUT_S) -> int:
        """The exit code, once it has ended."""
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(5)
        return code

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """``kill -9`` of the command and of everything it started."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def finished(event: Mapping[str, Any]) -> int:
    """Items that are done, skipped or failed, of a status."""
    items = event["items"]
    return int(items["done"] + items["skipped"] + items["failed"])


def descendants(pid: int) -> list[int]:
    """The process IDs of all children of a process, and of theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def is_running(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def run(*arguments: str, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """A command, run to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "ingest.cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
