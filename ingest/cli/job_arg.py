"""What commands on one job begin with."""

from __future__ import annotations

import click

from ingest.cli.config_arg import open_redis
from ingest.config import Settings
from ingest.job import Job

job_option = click.option("-j", "--job", "job_id", required=True, metavar="ID", help="The job's ID.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def open_job(job_id: str, settings: Settings) -> Job:
    """The job with this ID; one whose days have passed is expired on the way.

    Raises:
        JobNotFound, JobTooNew, RedisError: see their names.
    """
    open_redis(settings)
    job = Job(job_id, settings)
    job.expire()
    return job
