"""A node: a Celery worker for one job, in a process of its own.

Started by ``create`` and ``join`` as ``python -m ingest.workers``, which talk to it through signals and
through its standard input: a line of JSON names its job, for which it waits when it has loaded all that takes a
while. When that input closes, whoever started it is gone, and it stops as for SIGTERM.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Any

from celery.exceptions import SecurityWarning

from ingest.config import Settings
from ingest.errors import IngestError, LimitReached, RedisError
from ingest.job import Job
from ingest.ledger import Ledger
from ingest.node_name import new_node_name
from ingest.plugin_loader import import_ours
from ingest.presence import STOP_WITHIN_S, Presence
from ingest.queue import make_app
from ingest.redis_server import redis_url
from ingest.version import __version__
from ingest.workers.consumer import consumer_for
from ingest.workers.events import GatherEvents
from ingest.workers.guard import Bounds, Guard
from ingest.workers.hands import Hands
from ingest.workers.leases import GiveBack, RenewLeases, presence_step
from ingest.workers.machine import require_files, require_shared_memory
from ingest.workers.patience import patiently
from ingest.workers.tasks import register_task

log = logging.getLogger(__name__)

LOADED_LATE = (
    "celery.worker",
    "celery.concurrency.prefork",
    "celery.worker.consumer",
    "celery.loaders.app",
    "celery.events.dispatcher",
    "billiard.synchronize",
    "billiard.popen_fork",
    "cffi.cparser",  # of billiard, which lets each process end with its node
    "ingest.stores.s3",
)
"""What is imported when it is first used, and would be by every process anew."""


def run_node(job_id: str, node: str, processes: int, settings: Settings) -> None:
    """Work on a job until told to stop (SIGTERM: finish the batches in hand; SIGQUIT: at once).

    Raises:
        JobNotFound: before it has begun.
        RedisError: Redis does not let its user do what a node does, or was away for too long.
        ConfigError, LimitReached: this machine does not give it what it needs.
    """
    require_files(processes)
    require_shared_memory()
    threading.Thread(target=_stop_when_left_alone, args=(job_id, node, settings), daemon=True).start()
    job = patiently(lambda: Job(job_id, settings), settings.redis_patience_s)
    lease_s = job.config.queue.lease_s
    import_ours(job.config)
    app = make_app(job.ledger.url, job_id, lease_s)
    hands = Hands()
    register_task(app, job_id, node, settings, hands)
    facts: dict[str, str | int | float] = {
        "host": socket.gethostname(),
        "processes": processes,
        "pid": os.getpid(),
        "version": __version__,
    }
    keep_presence = presence_step(job.presence, node, facts, lambda: _pool_processes(worker))
    app.steps["consumer"].update([GatherEvents, GiveBack, keep_presence])
    leases = RenewLeases(job.ledger, lease_s)
    leases.start()
    consumer = consumer_for(job.ledger.url, settings.redis_patience_s)
    worker = app.Worker(
        consumer_cls=consumer,
        hostname=f"ingest@{node}",
        concurrency=processes,
        pool="prefork",
        optimization="fair",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel=settings.log_level,
        quiet=True,
    )
    bounds = Bounds(job.config.queue.item_timeout_s, settings.process_memory_bytes, processes)
    guard = Guard(job.ledger, node, lambda: _pool_processes(worker), hands, bounds)
    guard.start()
    try:
        worker.start()
    finally:
        guard.stop()
        leases.stop()
        _leave(job.presence, node)
    if consumer.ended_for is not None:
        raise consumer.ended_for
    sys.exit(worker.exitcode or 0)


def _pool_processes(worker: Any) -> list[int]:
    """The numbers of the pool's processes; none before it has started."""
    pool = getattr(getattr(worker, "pool", None), "_pool", None)
    return [process.pid for process in list(pool._pool) if process.pid] if pool is not None else []


def _leave(presence: Presence, node: str) -> None:
    try:
        presence.leave(node)
    except RedisError as error:
        log.debug("could not say goodbye: %s", error.what)


def _stop_when_left_alone(job_id: str, node: str, settings: Settings) -> None:
    """Wait for the end of standard input, then stop as for SIGTERM; for good if that takes too long."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_WITHIN_S)
    with suppress(RedisError):  # what it has in hand is not to blame for its end
        Ledger(redis_url(settings), job_id).suspects.stopped_by_itself(node)
    os.killpg(0, signal.SIGKILL)


def _prepare() -> None:
    """Import what a node's processes need, once for them all, before they are forked."""
    for module in LOADED_LATE:
        with suppress(ImportError):  # another version of a library may not have it; who needs it says so
            import_module(module)


def _await_order() -> dict[str, Any]:
    """What whoever started this node wants of it. Where they have gone, the node ends."""
    line = b""
    while not line.endswith(b"\n"):
        said = os.read(sys.stdin.fileno(), 4096)
        if not said:
            sys.exit(0)
        line += said
    order: dict[str, Any] = json.loads(line)
    return order


def _say_in(log_path: str) -> None:
    """Let what this node and its processes say go into a file."""
    log_file = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log_file, stream.fileno())
    os.close(log_file)


def _keep_in(scratch_dir: str) -> None:
    """Let passing files of this node and its processes, and of the libraries that they use, lie in a folder."""
    os.environ.update(INGEST_SCRATCH_DIR=scratch_dir, TMPDIR=scratch_dir)
    tempfile.tempdir = None


def main() -> None:
    """Run a node; the URL of Redis comes from its input or ``INGEST_REDIS_URL``, never from the command line."""
    parser = argparse.ArgumentParser(prog="python -m ingest.workers")
    parser.add_argument("job_id", nargs="?", help="by default a line of the standard input names it")
    parser.add_argument("--name", default=None, help="the node's name; by default a new one")
    parser.add_argument("--processes", type=int, help="by default as many as the settings say")
    arguments = parser.parse_args()
    # Celery warns root of pickled messages; ours are JSON, and nothing else is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    _prepare()
    order = {"job_id": arguments.job_id} if arguments.job_id else _await_order()
    if "log_path" in order:
        _say_in(order["log_path"])
    if "scratch_dir" in order:
        _keep_in(order["scratch_dir"])
    settings = Settings.load()
    if "redis_url" in order:
        settings = settings.model_copy(update={"redis_url": order["redis_url"]})
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    gc.freeze()  # what is loaded by now stays, and is not looked through in every process
    gc.enable()
    processes = arguments.processes or order.get("processes") or settings.default_processes
    try:
        run_node(order["job_id"], arguments.name or new_node_name(), processes, settings)
    except (IngestError, RuntimeError, OSError) as error:
        known = error if isinstance(error, IngestError) else LimitReached.of(error)
        if known is None:
            raise
        log.error("%s", known)
        sys.exit(known.exit_code)
