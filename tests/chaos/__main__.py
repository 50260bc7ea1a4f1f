"""The trials in their long form: ``python -m tests.chaos run``, as ``make chaos`` does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.chaos.report import Report, read, table
from tests.chaos.scenarios import SCENARIOS, run
from tests.chaos.world import FULL, SHORT

LONGEST_RUN_S = 1200
"""A run that has not come to an end by then has failed, and is ended."""
RUN_S = 420
"""What a run takes, about: none is begun with less time left."""
BEGIN, END = "<!-- table of trials -->", "<!-- end of the table -->"


@click.group()
def main() -> None:
    """Trials: jobs that lose nodes, Redis, the network and the store, and are audited."""


@main.command("one")
@click.argument("name", type=click.Choice(list(SCENARIOS)))
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--short", is_flag=True, help="Leases and outages as in CI.")
@click.option("--out", type=click.Path(path_type=Path), help="Append the report to this file.")
def one(name: str, seed: int, short: bool, out: Path | None) -> None:
    """Run one scenario; its report is one line of JSON."""
    began_s = time.monotonic()
    try:
        with TemporaryDirectory(prefix="ingest-chaos-", dir="/tmp") as folder:
            report = run(name, Path(folder), seed, SHORT if short else FULL)
    except Exception as error:
        traceback.print_exc()
        report = Report(
            name, seed, took_s=time.monotonic() - began_s, error=f"{type(error).__name__}: {error}"
        )
    if out is not None:
        _append(out, report)
    sys.exit(1 if report.error else 0)


@main.command("run")
@click.option("--duration-s", type=float, default=3600, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--at-once", type=int, default=3, show_default=True, help="Scenarios that run at one time.")
@click.option("--short", is_flag=True, help="Leases and outages as in CI.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("chaos.jsonl"), show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(SCENARIOS)), help="These scenarios alone.")
def run_many(
    duration_s: float, seed: int, at_once: int, short: bool, out: Path, only: tuple[str, ...]
) -> None:
    """Run scenarios in random order, for so long, then print the table. Exits with 1 if one failed."""
    out.unlink(missing_ok=True)
    chosen = _chosen(list(only or SCENARIOS), seed)
    begin_by_s = time.monotonic() + duration_s - (RUN_S * SHORT.factor if short else RUN_S)

    def lane(number: int) -> None:
        time.sleep(5 * number)
        while time.monotonic() < begin_by_s:
            name, own_seed = next(chosen)
            _run_apart(name, own_seed, short=short, out=out)

    with ThreadPoolExecutor(at_once) as lanes:
        list(lanes.map(lane, range(at_once)))
    reports = read(out)
    click.echo(table(reports))
    sys.exit(1 if any(report["error"] for report in reports) else 0)


@main.command("table")
@click.argument("file", type=click.Path(exists=True, path_type=Path), default=Path("chaos.jsonl"))
@click.option("--into", type=click.Path(exists=True, path_type=Path), help="Put it into this page.")
def show_table(file: Path, into: Path | None) -> None:
    """The table of a file of reports: printed, or put between the marks in docs/reliability.md."""
    text = table(read(file))
    if into is None:
        click.echo(text)
        return
    before, begin, rest = into.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise click.UsageError(f"{into} has no marks {BEGIN} and {END}")
    into.write_text(f"{before}{begin}\n{text}{end}{after}")


def _chosen(names: list[str], seed: int) -> Iterator[tuple[str, int]]:
    """Scenarios without end, each as often as the others, in an order that the seed draws; and a seed for each."""
    drawn = random.Random(seed)
    while True:
        drawn.shuffle(names)
        yield from [(name, drawn.randrange(1 << 30)) for name in names]


def _run_apart(name: str, seed: int, *, short: bool, out: Path) -> None:
    """Run one in a process group of its own, which is ended with all it started if it takes too long."""
    log = out.with_suffix(".logs")
    log.mkdir(exist_ok=True)
    command = [sys.executable, "-P", "-m", "tests.chaos", "one", name, "--seed", str(seed), "--out", str(out)]
    began_s = time.monotonic()
    with (log / f"{name}-{seed}.log").open("wb") as written:
        process = subprocess.Popen(
            [*command, *(["--short"] if short else [])],
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
        try:
            code = process.wait(LONGEST_RUN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _append(out, Report(name, seed, took_s=LONGEST_RUN_S, error="it came to no end"))
            code = 1
    click.echo(
        f"{name} {seed}: {'failed' if code else 'ok'} after {time.monotonic() - began_s:.0f} s", err=True
    )


def _append(out: Path, report: Report) -> None:
    with out.open("a") as file:
        file.write(report.to_json() + "\n")


if __name__ == "__main__":
    main()
