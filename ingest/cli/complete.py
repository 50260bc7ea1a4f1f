"""``ingest complete``: end a job that waits for a person's word."""

from __future__ import annotations

import os
import socket
import time

import click

from ingest.cli.job_arg import open_job
from ingest.cli.options import job_option, load_settings
from ingest.cli.output import printable
from ingest.cli.screens import end_lines
from ingest.coordinator import Coordinator
from ingest.errors import JobError
from ingest.ledger import State

LOOK_EVERY_S = 0.2


@click.command("complete")
@job_option
def command(job_id: str) -> int:
    """Write the manifest of a job that is 'uploaded', and end it. May be repeated.

    \b
    Example:
      ingest create config.json --manual-complete
      ingest complete -j k7f3q2xm
    """
    job = open_job(job_id, load_settings())
    if job.ledger.state() not in (State.COMPLETE, State.FAILED):
        job.ledger.finish(State.COMPLETING)
    coordinator = Coordinator(job, f"complete-{socket.gethostname()}-{os.getpid()}")
    with coordinator.on_duty():
        while not (status := job.status()).state.ended:
            if status.state in (State.UPLOADING, State.UPLOADED):
                raise JobError(
                    f"job {job_id} is {status.state}: {status.trouble or 'it is not completed any more'}",
                    hint=f"`ingest join -j {job_id}`, then `ingest complete` again",
                )
            coordinator.step()
            time.sleep(LOOK_EVERY_S)
    for line in end_lines(status):
        click.echo(printable(line))
    return status.exit_code
