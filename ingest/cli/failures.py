"""``ingest failures``: a job's failed items, and why."""

from __future__ import annotations

import click

from ingest.cli.job_arg import open_job
from ingest.cli.options import job_option, json_option, load_settings
from ingest.cli.output import emit_json, note, printable, printable_lines


@click.command("failures")
@job_option
@json_option
def command(job_id: str, as_json: bool) -> int:
    """List a job's failed items with their reasons.

    \b
    Example:
      ingest failures -j k7f3q2xm
      ingest failures -j k7f3q2xm --json     # an object a line: item, source, error, reason, node, time_s
    """
    count = 0
    for failure in open_job(job_id, load_settings()).failures():
        count += 1
        if as_json:
            emit_json(failure.to_dict())
        else:
            click.echo(f"{printable(failure.item.name)}: {printable_lines(failure.reason)}")
    if not count and not as_json:
        note(f"job {job_id} has no failed items")
    return 0
