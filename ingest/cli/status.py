"""``ingest status``: the state, counts and nodes of jobs."""

from __future__ import annotations

import time

import click

from ingest.cli.job_arg import open_job, open_redis
from ingest.cli.list_jobs import show_jobs
from ingest.cli.options import json_option, load_settings
from ingest.cli.output import emit_json, human_bytes, human_time, printable, printable_lines, table
from ingest.cli.patience import Patience
from ingest.cli.screens import end_lines, make_screen, progress_line
from ingest.errors import RedisError
from ingest.job import Job
from ingest.ledger import State
from ingest.progress import Progress
from ingest.status import Status

WATCH_EVERY_S = 0.5


@click.command("status")
@click.option("-j", "--job", "job_id", metavar="ID", help="The job's ID. Without it: all jobs.")
@click.option(
    "--watch", is_flag=True, help="Go on showing it until the job ends, or waits for `ingest complete`."
)
@json_option
def command(job_id: str | None, watch: bool, as_json: bool) -> int:
    """Show the state of a job, how far it is, and who works on it.

    The exit code says nothing of the job: that of `ingest join` does, also of one that has ended.

    \b
    Example:
      ingest status -j k7f3q2xm --watch
      ingest status -j k7f3q2xm --json     # one object: job_id, name, state, items, bytes, nodes, …
    """
    settings = load_settings()
    if job_id is None:
        if watch:
            raise click.UsageError("--watch needs a job: -j ID")
        open_redis(settings)
        return show_jobs(settings, as_json=as_json)
    job = open_job(job_id, settings)
    if watch:
        return _watch(job, as_json)
    status = job.status()
    if as_json:
        emit_json(status.to_dict())
    else:
        _show(status)
    return 0


def _watch(job: Job, as_json: bool) -> int:
    screen, patience = make_screen(as_json), Patience(job.settings.redis_patience_s)
    with screen:
        while True:
            try:
                status = job.status()
                patience.rest()
                screen.show(status)
                if _is_over(status):
                    break
            except RedisError as error:
                patience.bear(error, screen)
            time.sleep(WATCH_EVERY_S)
    screen.end(status)
    return 0


def _is_over(status: Status) -> bool:
    """Whether nothing more happens by itself."""
    return status.state.ended or status.state is State.UPLOADED


def _show(status: Status) -> None:
    click.echo(printable(f"{status.name} ({status.job_id}) -> {status.destination}"))
    ended = f", ended {human_time(status.ended_s)}" if status.ended_s is not None else ""
    click.echo(f"created {human_time(status.created_s)}{ended}")
    if _is_over(status):
        for line in end_lines(status):
            click.echo(printable(line))
    else:
        finished = status.counts.done + status.counts.skipped + status.counts.failed
        click.echo(progress_line(Progress(status, finished, 0.0, 0.0, None, None)))
    for word, text in (("paused", status.pause), ("trouble", status.trouble)):
        if text:
            click.echo(f"{word}: {printable_lines(text)}")
    if status.nodes:
        rows = [
            (
                n.node,
                n.processes,
                f"{n.items_per_s:,.2f}",
                f"{human_bytes(n.bytes_per_s)}/s",
                n.notice or ", ".join(n.in_hand),
            )
            for n in status.nodes
        ]
        table(
            ["node", "processes", "items/s", "rate", "in hand"], rows, right=["processes", "items/s", "rate"]
        )
