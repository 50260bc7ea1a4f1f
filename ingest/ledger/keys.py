"""A job's keys in Redis, and the scripts that are run on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from ingest.redis_client import connect, redis_errors


class JobKeys:
    """The keys of one job in one Redis.

    Raises (every method of it, and of what is made of it):
        RedisError: Redis cannot be reached, refuses, or is full.
    """

    def __init__(self, url: str, job_id: str, client: redis.Redis | None = None) -> None:
        self.url = url
        self.job_id = job_id
        self.client = client or connect(url)
        self._key = f"ingest:{{{job_id}}}"
        self._scripts: dict[str, Any] = {}

    def key(self, part: str = "") -> str:
        """The Redis key of a part of this job."""
        return f"{self._key}:{part}" if part else self._key

    def run(self, script: str, parts: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script on some parts of the job, as one atomic step."""
        return self.run_on(script, [self.key(part) for part in parts], args)

    def run_on(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """The same on any keys."""
        if script not in self._scripts:
            self._scripts[script] = self.client.register_script(script)
        with redis_errors(self.url):
            return self._scripts[script](keys=list(keys), args=list(args))
