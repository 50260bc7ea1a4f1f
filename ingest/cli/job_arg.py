"""What commands on one job begin with: the machine's Redis, and the job."""

from __future__ import annotations

from ingest.cli.output import note
from ingest.config import Settings
from ingest.job import Job
from ingest.redis_server import redis_url


def open_redis(settings: Settings) -> str:
    """The URL of the Redis to use. Says so where it had to start the bundled one."""
    return redis_url(settings, note)


def open_job(job_id: str, settings: Settings) -> Job:
    """The job with this ID; one whose days have passed is expired on the way.

    Raises:
        JobNotFound, JobTooNew, RedisError: see their names.
    """
    open_redis(settings)
    job = Job(job_id, settings)
    job.expire()
    return job
