"""When an Ingest job began its first batch and committed its last, seen from outside."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import cast

from ingest.config import Settings
from ingest.redis_client import connect
from ingest.redis_server import running

LOOK_EVERY_S = 0.02


class CommitClock:
    """Looks into a job's ledger, 50 times a second, for its first batch begun and its last committed.

    Attributes:
        begun_s, committed_s: wall-clock times (Unix), or None where it was not seen.
    """

    def __init__(self, state_dir: Path) -> None:
        self._settings = Settings(state_dir=state_dir, redis_url=None)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.begun_s: float | None = None
        self.committed_s: float | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    @property
    def running_s(self) -> float | None:
        """From the first batch begun to the last one committed."""
        if self.begun_s is None or self.committed_s is None:
            return None
        return self.committed_s - self.begun_s

    def _run(self) -> None:
        while (server := running(self._settings)) is None:
            if self._stop.wait(LOOK_EVERY_S):
                return
        client = connect(server.url)
        jobs: list[bytes] = []
        while not jobs and not self._stop.wait(LOOK_EVERY_S):
            jobs = cast("list[bytes]", client.zrange("ingest:jobs", 0, 0))
        key = f"ingest:{{{jobs[0].decode() if jobs else ''}}}"
        committed = 0
        while not self._stop.wait(LOOK_EVERY_S):
            with client.pipeline(transaction=False) as pipe:
                begun, now = pipe.exists(f"{key}:attempts").hget(key, "committed").execute()
            if begun and self.begun_s is None:
                self.begun_s = time.time()
            if int(now or 0) > committed:
                committed, self.committed_s = int(now), time.time()
        client.close()
