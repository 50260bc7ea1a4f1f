"""``ingest cancel``: stop a job everywhere."""

from __future__ import annotations

import sys

import click

from ingest.cli.job_arg import open_job
from ingest.cli.options import job_option, load_settings
from ingest.cli.output import note, plural
from ingest.errors import ConfigError, JobError
from ingest.ledger import State


@click.command("cancel")
@job_option
@click.option("--delete-uploaded", is_flag=True, help="Delete the objects that this job stored, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(job_id: str, delete_uploaded: bool, yes: bool) -> int:
    """Stop a job for good: all nodes stop within seconds, its queue is purged, half-done uploads are aborted.

    What was stored stays, unless --delete-uploaded is given. Even then what was written again since stays, and
    what other jobs below the same destination have in their manifests: they may have found it there, and counted on it.
    While another job is at work below it, --delete-uploaded is refused.
    Sources are never touched. A job that is complete, failed or expired cannot be cancelled any more.

    \b
    Example:
      ingest cancel -j k7f3q2xm
      ingest cancel -j k7f3q2xm --delete-uploaded --yes
    """
    job = open_job(job_id, load_settings())
    status = job.status()
    if status.state.ended and status.state is not State.CANCELLED:
        raise JobError(f"job {job_id} is {status.state}: there is nothing left to cancel")
    stored = status.counts.objects
    question = f"Cancel job {job_id} ({job.config.name})"
    if delete_uploaded:
        question += (
            f" and delete the {stored:,} objects or more that it stored below {job.config.destination.url}"
        )
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("nobody is there to ask", hint="add --yes to go on without asking")
        click.confirm(question + "?", abort=True, err=True)
    again = status.state is State.CANCELLED
    deleted = job.cancel(delete_uploaded=delete_uploaded)
    note(f"job {job_id} {'was cancelled already' if again else 'is cancelled'}")
    if delete_uploaded:
        note(f"{plural(deleted, 'object')} that it stored are deleted")
        if not job.record.capabilities.metadata:
            note(
                "what batches that were cut off had stored is left: this destination does not tell who stored it"
            )
    return 0
