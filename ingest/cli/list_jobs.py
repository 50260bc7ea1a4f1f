"""``ingest list``: the jobs in this Redis."""

from __future__ import annotations

import click

from ingest.cli.job_arg import open_redis
from ingest.cli.options import json_option, load_settings
from ingest.cli.output import emit_json, human_time, note, table
from ingest.config import Settings
from ingest.errors import IngestError, JobError
from ingest.job import Job, jobs
from ingest.status import Status


@click.command("list")
@json_option
def command(as_json: bool) -> int:
    """List all jobs in this Redis, newest first.

    \b
    Example:
      ingest list
      ingest list --json     # an object a line, as `ingest status --json` prints it
    """
    settings = load_settings()
    open_redis(settings)
    return show_jobs(settings, as_json=as_json)


def show_jobs(settings: Settings, *, as_json: bool) -> int:
    """Print all jobs; returns the exit code."""
    rows = []
    for job in jobs(settings):
        status = _status(job)
        if isinstance(status, IngestError):
            note(str(status))
            continue
        if as_json:
            emit_json(status.to_dict())
            continue
        counts = status.counts
        rows.append(
            (
                status.job_id,
                status.name,
                status.state,
                human_time(status.created_s),
                *(f"{n:,}" for n in (status.items_total, counts.done, counts.skipped, counts.failed)),
                status.node_count,
            )
        )
    if rows:
        numbers = ["items", "done", "skipped", "failed", "nodes"]
        table(["job", "name", "state", "created", *numbers], rows, right=numbers)
    elif not as_json:
        note("there are no jobs in this Redis yet; `ingest create` makes one")
    return 0


def _status(job: Job | IngestError) -> Status | IngestError:
    """The job now; an error in place of one that cannot be read."""
    if isinstance(job, IngestError):
        return job
    try:
        job.expire()
        return job.status()
    except JobError as error:
        return error
