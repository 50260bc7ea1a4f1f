"""A node as a process of its own, started and stopped by the command that joined."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path

from ingest.config import Settings
from ingest.errors import IngestError, RedisError
from ingest.job import Job
from ingest.locked_folder import LockedFolder
from ingest.presence import new_node_name


class NodeProcess:
    """The node that this command runs. It has its own session: a Ctrl-C reaches the command alone."""

    def __init__(self, job: Job, processes: int) -> None:
        self._job = job
        self.name = new_node_name()
        self.log_path = _log_path(job.settings, job.job_id)
        self._scratch = LockedFolder(job.settings.scratch, "node-")
        # A node is killed at the end, and cleans up nothing: whatever it keeps for a while is in here.
        environment = {
            **os.environ,
            "INGEST_REDIS_URL": job.ledger.url,
            "INGEST_SCRATCH_DIR": str(self._scratch.path),
            "TMPDIR": str(self._scratch.path),
        }
        command = [
            sys.executable,
            "-P",
            "-m",
            "ingest.workers.node",
            job.job_id,
            "--name",
            self.name,
            "--processes",
            str(processes),
        ]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """See that it still runs.

        Raises:
            IngestError: it ended by itself; the end of its log says why.
        """
        code = self._process.poll()
        if code is not None:
            tail = "\n".join(deque(self.log_path.read_text(errors="replace").splitlines(), maxlen=5))
            error = IngestError(
                f"the node ended by itself with exit code {code}:\n{tail}", hint=f"see {self.log_path}"
            )
            raise error

    def ask_to_stop(self) -> None:
        """Take no new batches; finish those in hand."""
        self._tell("soon")
        self._process.terminate()

    def hurry(self) -> None:
        """Give the batches in hand back to the queue, and stop."""
        self._tell("now")
        self._process.terminate()

    def _tell(self, when: str) -> None:
        with contextlib.suppress(RedisError):
            self._job.presence.announce(self.name, {"stopping": when})

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within ``timeout_s`` seconds."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it with all its processes, now. What it had in hand is not to blame for that."""
        if self._process.poll() is None:
            with contextlib.suppress(RedisError):
                self._job.ledger.stopped_by_itself(self.name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(RedisError):
            self._job.presence.leave(self.name)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._scratch.remove()
        if self.log_path.exists() and self.log_path.stat().st_size == 0:
            self.log_path.unlink()


def _log_path(settings: Settings, job_id: str) -> Path:
    folder = settings.state_dir / "logs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"{job_id}-{os.getpid()}.log"
