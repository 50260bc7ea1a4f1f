"""The trials in their long form: ``python -m tests.chaos run``, as ``make chaos`` does."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import pytest

from tests.chaos.apart import Apart
from tests.chaos.report import Report, read, table
from tests.chaos.scenarios import SCENARIOS, run
from tests.chaos.world import FULL, SHORT

RUN_S = 420
"""What a run takes, about: none is begun with less time left."""
LONGEST_ERROR = 3000
BEGIN, END = "<!-- table of trials -->", "<!-- end of the table -->"

seed_option = click.option("--seed", type=int, default=1, show_default=True)
short_option = click.option("--short", is_flag=True, help="Leases and outages as in CI.")
only_option = click.option("--only", multiple=True, type=click.Choice(list(SCENARIOS)), help="These alone.")


@click.group()
def main() -> None:
    """Trials: jobs that lose nodes, Redis, the network and the store, and are audited."""


@main.command("one")
@click.argument("name", type=click.Choice(list(SCENARIOS)))
@seed_option
@short_option
@click.option("--out", type=click.Path(path_type=Path), help="Append the report to this file.")
def one(name: str, seed: int, short: bool, out: Path | None) -> None:
    """Run one scenario; its report is one line of JSON."""
    began_s = time.monotonic()
    try:
        with TemporaryDirectory(prefix="ingest-chaos-", dir="/tmp") as folder:
            report = run(name, Path(folder), seed, SHORT if short else FULL)
    except pytest.skip.Exception as missing:
        report = Report(name, seed, skipped=str(missing))
    except (Exception, pytest.fail.Exception) as error:
        traceback.print_exc()
        took_s = time.monotonic() - began_s
        report = Report(name, seed, took_s=took_s, error=f"{type(error).__name__}: {error}"[:LONGEST_ERROR])
    if out is not None:
        report.append(out)
    sys.exit(1 if report.error else 0)


@main.command("run")
@click.option("--duration-s", type=float, default=3600, show_default=True)
@seed_option
@click.option("--at-once", type=int, default=3, show_default=True, help="Scenarios that run at one time.")
@short_option
@only_option
@click.option("--out", type=click.Path(path_type=Path), default=Path("chaos.jsonl"), show_default=True)
def run_many(
    duration_s: float, seed: int, at_once: int, short: bool, out: Path, only: tuple[str, ...]
) -> None:
    """Run scenarios in random order, for so long, then print the table. Exits with 1 if one failed."""
    run_s = RUN_S * SHORT.factor if short else RUN_S
    if duration_s <= run_s:
        raise click.UsageError(f"one run takes about {run_s:.0f} s: give more than that")
    out.unlink(missing_ok=True)
    begin_by_s = time.monotonic() + duration_s - run_s
    chosen = _drawn(list(only or SCENARIOS), seed)
    Apart(out, short=short).run_all(chosen, at_once, lambda: time.monotonic() < begin_by_s)
    reports = read(out)
    click.echo(table(reports))
    sys.exit(1 if any(report["error"] for report in reports) else 0)


@main.command("each")
@only_option
@click.option("--at-once", type=int, default=3, show_default=True, help="Scenarios that run at one time.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--while", "parent", type=int, required=True, help="Stop when this process has ended.")
def each(only: tuple[str, ...], at_once: int, out: Path, parent: int) -> None:
    """Run each scenario once in its short form, as the tests do."""
    apart = Apart(out, short=True)
    threading.Thread(target=_end_without, args=(parent, apart), daemon=True).start()
    apart.run_all(iter([(name, 1) for name in only or SCENARIOS]), at_once, lambda: True)


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


def _drawn(names: list[str], seed: int) -> Iterator[tuple[str, int]]:
    """Scenarios without end, each as often as the others, in an order that the seed draws; and a seed for each."""
    drawn = random.Random(seed)
    while True:
        drawn.shuffle(names)
        yield from [(name, drawn.randrange(1 << 30)) for name in names]


def _end_without(parent: int, apart: Apart) -> None:
    """When a process has ended, end all that runs for it."""
    while Path(f"/proc/{parent}").exists():
        time.sleep(1)
    apart.end()
    os._exit(1)


if __name__ == "__main__":
    main()
