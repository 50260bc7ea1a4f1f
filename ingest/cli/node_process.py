"""A node as a process of its own, started and stopped by the command that joined. Quick to import."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ingest.errors import ConfigError, IngestError, RedisError, Stopped
from ingest.locked_folder import LockedFolder
from ingest.node_name import new_node_name

if TYPE_CHECKING:
    from ingest.job import Job

TAIL_LINES = 5
LOGS_KEPT_S = 90 * 86_400.0


class NodeProcess:
    """The node that this command runs. It has its own session: a Ctrl-C reaches the command alone.

    It is started before all else, as it takes a while to load, and waits for a job. Whatever becomes of this
    command, the node ends with it: killed on leaving the context, or as its standard input closes.

    Args:
        processes: how many it has; None for what the settings of the job's machine say.
    """

    def __init__(self, processes: int | None) -> None:
        self._job: Job | None = None
        self._processes = processes
        self._log_path: Path | None = None
        self._scratch: LockedFolder | None = None
        self.name = new_node_name()
        self._said_early = TemporaryFile()  # noqa: SIM115 - kill closes it
        command = [sys.executable, "-P", "-m", "ingest.workers", "--name", self.name]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._said_early,
            stderr=self._said_early,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def begin(self, job: Job) -> None:
        """Let it work on a job. If it has ended, :meth:`check` says so."""
        self._job = job
        remove_old_logs(job.settings.logs)
        self._log_path = job.settings.logs / f"{job.job_id}-{os.getpid()}.log"
        # A node is killed at the end, and cleans up nothing: whatever it keeps for a while is in here.
        self._scratch = LockedFolder(job.settings.scratch, "node-")
        # Not by the environment or an argument: the URL may hold a password, and was not known when it was started.
        order = {
            "job_id": job.job_id,
            "redis_url": job.ledger.url,
            "processes": self._processes,
            "log_path": str(self._log_path),
            "scratch_dir": str(self._scratch.path),
        }
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def check(self) -> None:
        """See that it still runs.

        Raises:
            Stopped: it was killed.
            ConfigError, RedisError, IngestError: it ended by itself; the end of its log says why.
        """
        code = self._process.poll()
        if code == -signal.SIGKILL:
            raise Stopped(
                "the node was killed: was there no memory left?",
                hint=f"nothing is lost; to go on: ingest join -j {self._job.job_id}" if self._job else None,
            )
        if code is not None:
            known: dict[int, type[IngestError]] = {kind.exit_code: kind for kind in (ConfigError, RedisError)}
            raise known.get(code, IngestError)(
                f"the node ended by itself with exit code {code}:\n{self._last_words()}",
                hint=f"see {self._log}" if self._log else None,
            )

    @property
    def _log(self) -> Path | None:
        """What it says in its job is in here, as soon as it has one."""
        return self._log_path if self._log_path is not None and self._log_path.exists() else None

    def _last_words(self) -> str:
        """The end of what it said."""
        self._said_early.seek(0)
        said = self._said_early.read().decode(errors="replace")
        if self._log is not None:
            said += self._log.read_text(errors="replace")
        return "\n".join(deque(said.splitlines(), maxlen=TAIL_LINES))

    def last_word(self) -> str:
        """What it said last, or "": where it does not begin to work, why."""
        lines = [line for line in self._last_words().splitlines() if not line.startswith(" ")]
        return lines[-1].partition(": ")[2] if lines else ""  # after the time, and who of it said so

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
            if self._job is not None:
                self._job.presence.announce(self.name, {"stopping": when})
                # Whoever asked may not wait (docker kills after 10 s): what it has in hand is not to blame for that.
                self._job.ledger.suspects.stopped_by_itself(self.name)

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within ``timeout_s`` seconds."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it with all its processes, now. What it had in hand is not to blame for that. May be repeated."""
        job = self._job
        if job is not None and self._process.poll() is None:
            with contextlib.suppress(RedisError):
                job.ledger.suspects.stopped_by_itself(self.name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if job is not None:
            with contextlib.suppress(RedisError):
                job.presence.leave(self.name)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self._scratch is not None:
            self._scratch.remove()
        if self._log is not None and self._log.stat().st_size == 0:
            self._log.unlink()
        self._said_early.close()


def remove_old_logs(folder: Path) -> None:
    """Remove the logs to which nothing was added for ``LOGS_KEPT_S``: a machine may join every day for years."""
    for log in folder.glob("*.log"):
        with contextlib.suppress(OSError):  # another command removes it, or it is another user's
            if time.time() - log.stat().st_mtime > LOGS_KEPT_S:
                log.unlink()
