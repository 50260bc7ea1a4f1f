"""Runs one ``ingest create`` as a trial: a real command with a Redis of its own, watched to its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watching import Sample, Watching

from ingest.config import Settings
from ingest.redis_server import stop

HERE = Path(__file__).parent
PROCESSORS = HERE / "processors"


@dataclass(frozen=True, slots=True)
class Trial:
    """A command that ran to its end.

    Attributes:
        wall_s: the whole command.
        samples: of its processes, about one a second.
        redis_before_bytes: what Redis used before there was a job.
        ended: the last event that the command printed.
    """

    wall_s: float
    samples: list[Sample]
    redis_before_bytes: int
    ended: Mapping[str, Any]


def run_job(
    config: Mapping[str, Any],
    folder: Path,
    *,
    processes: int,
    null_store: bool = True,
    every_s: float = 1.0,
    env: Mapping[str, str] | None = None,
) -> Trial:
    """Create a job, work on it to its end, and count what it said.

    Args:
        config: the job's config.
        folder: for the config, the state folder and the logs.
        processes: of the one node.
        null_store: data objects are discarded (those of the manifest are kept).
        every_s: seconds between samples.
        env: more variables.

    Raises:
        RuntimeError: the command failed, or its job is not complete.
    """
    path, state_dir = folder / "config.json", folder / "state"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-P", "-m", "ingest.cli", "create", str(path)]
    command += ["--yes", "--json", "--processes", str(processes)]
    out, errors = folder / "out", folder / "errors"
    settings = Settings(state_dir=state_dir, redis_url=None)
    try:
        with out.open("wb") as out_file, errors.open("wb") as errors_file:
            began_s = time.monotonic()
            process = subprocess.Popen(
                command,
                env=_environment(state_dir, null_store, env or {}),
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=errors_file,
            )
            try:
                with Watching(settings, process.pid, every_s) as watching:
                    code = process.wait()
                wall_s = time.monotonic() - began_s
            finally:
                process.kill()
        lines = out.read_text().splitlines()
        ended = json.loads(lines[-1]) if lines else {}
        if code or ended.get("state") != "complete":
            raise RuntimeError(f"ingest create ended with {code}: {ended}\n{errors.read_text()[-3000:]}")
        return Trial(wall_s, watching.samples, watching.before_bytes, ended)
    finally:
        stop(settings)


def _environment(state_dir: Path, null_store: bool, more: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
    ours = {"INGEST_STATE_DIR": str(state_dir), "INGEST_PLUGIN_PATHS": f"{PROCESSORS}/"}
    if null_store:
        ours["PYTHONPATH"] = str(HERE / "null")
    return {**kept, **ours, **more}
