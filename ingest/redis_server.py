"""The embedded default: one bundled Redis for each state folder, started when first needed.

It listens on a Unix socket that only its owner may open, with a random password, and keeps every write in
an append-only file, so that jobs outlive it. The server process inherits a locked file, and so holds that
lock for as long as it lives: this is how every command, also one in another container or on another machine
that shares the folder, knows that it is there, and none starts a second one on the same data.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from ingest.config import Settings
from ingest.errors import RedisUnreachable
from ingest.redis_binary import Binary, find_binary
from ingest.redis_client import redis_errors
from ingest.redis_files import ServerFiles

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
_SOCKET_GONE_S = 3.0
_POLL_S = 0.02
_DIRECTIVES = {
    "port": "0",
    "unixsocketperm": "600",
    "daemonize": "yes",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "always-show-logo": "no",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """The bundled Redis, as it runs now."""

    url: str
    folder: Path
    version: str
    pid: int
    memory_bytes: int
    clients: int


def redis_url(settings: Settings, announce: Callable[[str], None] = logger.info) -> str:
    """The URL of the Redis to use; where none is set, that of the bundled one, which is started if need be.

    Args:
        announce: is told, in one sentence, when a server was started or is slow to load its data.

    Raises:
        RedisUnreachable: no server program was found, or it does not start (with the end of its log).
    """
    if settings.redis_url:
        return settings.redis_url
    files = ServerFiles(settings.state_dir)
    with _file_errors(files.folder):
        files.make()
        if files.exist() and _answers(files.url):
            return files.url
        with files.start_lock():
            files.make_facts()
            if not _await(files, announce):
                binary = _start(files, announce)
                what = f"the bundled Redis ({binary.version_text}, in {files.folder})"
                announce(f"started {what}; `ingest down` stops it")
        return files.url


def running(settings: Settings) -> RunningServer | None:
    """The bundled Redis of this state folder, or None where it does not run or does not answer."""
    files = ServerFiles(settings.state_dir)
    if not files.exist():
        return None
    try:
        with _client(files.url) as client:
            info = client.info()
    except (redis.exceptions.RedisError, OSError):
        return None
    return RunningServer(
        url=files.url,
        folder=files.folder,
        version=info["redis_version"],
        pid=info["process_id"],
        memory_bytes=info["used_memory"],
        clients=info["connected_clients"] - 1,
    )


def stop(settings: Settings) -> bool:
    """Stop the bundled Redis of this state folder; its data stay. False where none was running.

    Raises:
        RedisUnreachable: it runs, but does not stop.
    """
    files = ServerFiles(settings.state_dir)
    if not files.exist():
        return False
    with _file_errors(files.folder), files.start_lock():
        was_running = files.server_lives()
        if was_running:
            _shut_down(files)
        files.socket.unlink(missing_ok=True)
        return was_running


def _client(url: str) -> redis.Redis:
    """A client that asks once: waiting is ours to do."""
    return redis.Redis.from_url(
        url, socket_timeout=5.0, socket_connect_timeout=5.0, retry=Retry(NoBackoff(), 0)
    )


def _answers(url: str) -> bool:
    """Whether the server answers and has loaded its data."""
    try:
        with redis_errors(url), _client(url) as client:
            client.ping()
    except RedisUnreachable:
        return False
    return True


def _await(files: ServerFiles, announce: Callable[[str], None]) -> bool:
    """Wait until the server that has this folder answers; False where there is none (any more)."""
    started_s = time.monotonic()
    told = False
    while files.server_lives():
        if _answers(files.url):
            return True
        waited_s = time.monotonic() - started_s
        if _is_loading(files.url):
            if waited_s > 3 and not told:
                announce("the bundled Redis is loading its data …")
                told = True
        elif waited_s > _SOCKET_GONE_S and not files.socket.exists() and _terminate(files):
            continue  # somebody tidied the socket away: the data are safe, another server can have them
        elif waited_s > START_TIMEOUT_S:
            raise _silent(files)
        time.sleep(_POLL_S)
    return False


def _is_loading(url: str) -> bool:
    try:
        with _client(url) as client:
            client.ping()
    except redis.exceptions.BusyLoadingError:
        return True
    except redis.exceptions.RedisError:
        return False
    return False


def _start(files: ServerFiles, announce: Callable[[str], None]) -> Binary:
    """Start a server on this folder and wait until it answers."""
    binary = find_binary()
    _refuse_older(files, binary)
    files.socket.unlink(missing_ok=True)
    with files.server_lock() as lock:
        done = subprocess.run(  # it goes to the background by itself
            [binary.path, "-"],  # the name of a config file would be a pattern to Redis 7
            pass_fds=[lock],
            start_new_session=True,
            umask=0o077,
            input=_config(files),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=START_TIMEOUT_S,
            check=False,
        )
    if done.returncode or not _await(files, announce):
        said = f"{done.stdout.decode(errors='replace')}\n{files.log_tail()}".strip()
        raise RedisUnreachable(
            f"the bundled Redis ({binary.path}) does not start; the end of its log:\n{said}"
        )
    files.remember(binary)
    return binary


def _refuse_older(files: ServerFiles, binary: Binary) -> None:
    """Refuse a server older than the one that wrote the data: it might not see them, and start empty."""
    written_by = files.facts.get("version")
    if written_by and binary.version[:2] < tuple(int(part) for part in written_by.split(".")[:2]):
        raise RedisUnreachable(
            f"the data in {files.folder} were written by Redis {written_by}; "
            f"found {binary.path}, which is {binary.version_text} and cannot read them",
            hint=f"put {files.facts['binary']} back on PATH, or set INGEST_STATE_DIR to a new folder",
        )


def _config(files: ServerFiles) -> bytes:
    """The server's config, for its standard input: secrets and paths go there, never on a command line."""
    values = {
        **{name: value.encode() for name, value in _DIRECTIVES.items()},
        "requirepass": files.facts["password"].encode(),
        "unixsocket": os.fsencode(files.socket),
        "dir": os.fsencode(files.folder),
        "pidfile": os.fsencode(files.pid),
        "logfile": os.fsencode(files.log),
    }
    return b"".join(name.encode() + b" " + _quoted(value) + b"\n" for name, value in values.items())


def _quoted(value: bytes) -> bytes:
    """A value in the quotes of Redis's config files."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._- "
    return b'"' + b"".join(bytes([c]) if c in plain else b"\\x%02x" % c for c in value) + b'"'


def _shut_down(files: ServerFiles) -> None:
    """End the server in an orderly way: by its own command, else by signal."""
    try:
        with _client(files.url) as client:
            client.shutdown()
    except (redis.exceptions.RedisError, OSError):
        if not _terminate(files):
            raise _silent(files) from None
    give_up_s = time.monotonic() + STOP_TIMEOUT_S
    while files.server_lives():
        if time.monotonic() > give_up_s:
            raise RedisUnreachable(
                f"the bundled Redis does not stop; the end of its log:\n{files.log_tail()}"
            )
        time.sleep(_POLL_S)


def _terminate(files: ServerFiles) -> bool:
    """Ask the server's process to end, if it is surely the one of this folder; waits a moment for it."""
    try:
        pid = int(files.pid.read_text())
        if not Path(f"/proc/{pid}/cwd").samefile(files.folder):
            return False
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return False
    with contextlib.suppress(OSError):
        for _ in range(250):
            os.kill(pid, 0)
            time.sleep(_POLL_S)
    return True


def _silent(files: ServerFiles) -> RedisUnreachable:
    return RedisUnreachable(
        f"a bundled Redis has {files.folder} but does not answer at {files.socket}",
        hint="is it on another machine that shares the folder? Then set INGEST_REDIS_URL for all machines, "
        "or INGEST_STATE_DIR to a local folder",
    )


@contextmanager
def _file_errors(folder: Path) -> Iterator[None]:
    """Within it, a state folder that cannot be used becomes a sentence."""
    try:
        yield
    except OSError as error:
        raise RedisUnreachable(
            f"the bundled Redis cannot use {folder}: {error.strerror or error}",
            hint="set INGEST_STATE_DIR to a folder of yours, or INGEST_REDIS_URL to a Redis that runs",
        ) from error
