"""``ingest join``: help with a job from this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ingest.cli.config_arg import load_settings
from ingest.cli.job_arg import job_option, open_job
from ingest.cli.output import emit_json
from ingest.cli.screens import make_screen
from ingest.cli.work import work
from ingest.errors import JobError

Function = TypeVar("Function", bound=Callable[..., Any])


def join_options(function: Function) -> Function:
    """The options of every command that runs a node."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line."),
        click.option(
            "-p",
            "--processes",
            type=click.IntRange(1, 1024),
            help="Processes of this node. Default: INGEST_PROCESSES, or one a core.",
        ),
    ):
        function = decorate(function)
    return function


@click.command("join")
@job_option
@join_options
def command(job_id: str, processes: int | None, as_json: bool) -> int:
    """Help with a job from this machine, until it has ended.

    The machine needs the same INGEST_REDIS_URL, and sees the job's sources under the same paths.
    Ctrl-C stops this node alone: it finishes what it has in hand, and nothing is lost.

    \b
    Example:
      ingest join -j k7f3q2xm
      ingest join -j k7f3q2xm -p 4 --json
    """
    settings = load_settings()
    job = open_job(job_id, settings)
    state = job.ledger.state()
    if state.ended:
        raise JobError(
            f"job {job_id} is {state}: there is nothing left to do", hint=_what_next(job_id, state)
        )
    job.processors().close()
    job.finishers()
    job.open_store()
    if as_json:
        emit_json({"event": "joined", "job_id": job_id})
    return work(job, processes or settings.default_processes, make_screen(as_json))


def _what_next(job_id: str, state: str) -> str | None:
    return f"`ingest retry -j {job_id}` reopens its failed items" if state == "failed" else None
