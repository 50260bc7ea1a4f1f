"""Scenarios in processes of their own, several at one time: they mostly wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import click

from tests.chaos.report import Report, read

LONGEST_RUN_S = 1200
"""A run that has not come to an end by then has failed, and is ended."""
FIRST_APART_S = 3
"""Seconds between the first runs, so that they do not all start at once."""
ROOT = Path(__file__).parent.parent.parent


class Apart:
    """Runs scenarios, and appends their reports to a file, and what they print to a folder beside it."""

    def __init__(self, out: Path, *, short: bool) -> None:
        self._out = out
        self._short = short
        self._logs = out.with_suffix(".logs")
        self._running: set[int] = set()
        self._lock = threading.Lock()

    def run_all(self, chosen: Iterator[tuple[str, int]], at_once: int, go_on: Callable[[], bool]) -> None:
        """Run the scenarios that are chosen, with their seeds, until there are no more or ``go_on`` says so."""
        self._logs.mkdir(exist_ok=True)

        def lane(number: int) -> None:
            time.sleep(FIRST_APART_S * number)
            while go_on():
                with self._lock:
                    drawn = next(chosen, None)
                if drawn is None:
                    return
                self._run(*drawn)

        lanes = ThreadPoolExecutor(at_once)
        try:
            list(lanes.map(lane, range(at_once)))
        except BaseException:
            self.end()
            raise
        finally:
            lanes.shutdown(wait=False, cancel_futures=True)

    def end(self) -> None:
        """End what runs now, with all that it started: nodes stop when whoever started them is gone."""
        with self._lock:
            for pid in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

    def _run(self, name: str, seed: int) -> None:
        command = [sys.executable, "-P", "-m", "tests.chaos", "one", name, "--seed", str(seed)]
        command += ["--out", str(self._out), *(["--short"] if self._short else [])]
        began_s = time.monotonic()
        with (self._logs / f"{name}-{seed}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        with self._lock:
            self._running.add(process.pid)
        try:
            code = process.wait(LONGEST_RUN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        with self._lock:
            self._running.discard(process.pid)
        took_s = time.monotonic() - began_s
        if not any((report["scenario"], report["seed"]) == (name, seed) for report in read(self._out)):
            Report(name, seed, took_s=took_s, error=f"it ended with {code}").append(self._out)
        click.echo(f"{name} {seed}: {'failed' if code else 'ok'} after {took_s:.0f} s", err=True)


def _environment() -> dict[str, str]:
    """This process's, without the settings and credentials of whoever runs it."""
    mine = {name: text for name, text in os.environ.items() if not name.startswith(("INGEST_", "AWS_"))}
    return {**mine, "PYTHONPATH": str(ROOT)}
