"""``ingest retry``: reopen a job's failed items."""

from __future__ import annotations

import click

from ingest.cli.job_arg import open_job
from ingest.cli.options import job_option, load_settings
from ingest.cli.output import plural


@click.command("retry")
@job_option
def command(job_id: str) -> int:
    """Reopen a failed job with its failed items, as their sources are now. Then join it.

    \b
    Example:
      ingest failures -j k7f3q2xm     # see why, and mend it
      ingest retry -j k7f3q2xm
      ingest join -j k7f3q2xm
    """
    items = open_job(job_id, load_settings()).retry()
    click.echo(
        f"job {job_id}: {plural(items, 'item')} to be tried again; to work on them: ingest join -j {job_id}"
    )
    return 0
