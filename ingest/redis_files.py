"""The files of the bundled Redis in a state folder: its password, socket, config and locks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest.errors import RedisUnreachable
from ingest.redis_binary import Binary

MAX_SOCKET_PATH_BYTES = 103  # sun_path holds 104 bytes on macOS and 108 on Linux, with the NUL at its end
_LOCK_PATIENCE_S = 2.0
_PLAIN_PATH = re.compile(r"^[A-Za-z0-9/._+-]+$")


class ServerFiles:
    """The bundled server's files in one state folder, all of them readable by their owner only."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir.absolute() / "redis"
        self.log = self.folder / "redis.log"
        self.pid = self.folder / "redis.pid"
        self._facts = self.folder / "server.json"

    def exist(self) -> bool:
        """Whether a server was ever started here."""
        return self._facts.is_file()

    def make(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)

    def make_facts(self) -> None:
        """Choose password and socket, once for the folder's life. Call it under :meth:`start_lock`."""
        if not self.exist():
            self._write_facts({"password": secrets.token_urlsafe(32), "socket": str(self._choose_socket())})
        self._make_socket_folder()

    def _choose_socket(self) -> Path:
        """A socket in the folder; elsewhere where its path would be too long, or need quoting in a URL."""
        name = f"ingest-{os.getuid()}-{hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]}"
        for folder in (self.folder, Path(tempfile.gettempdir()) / name):
            path = folder / "redis.sock"
            if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES and _PLAIN_PATH.match(str(path)):
                return path
        return Path("/tmp") / name / "redis.sock"  # noqa: S108 - a folder of ours alone, see below

    def _make_socket_folder(self) -> None:
        """Make the socket's own folder, and refuse one that somebody else put there."""
        folder = self.socket.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
        if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise RedisUnreachable(
                f"{folder}, where the bundled Redis is to put its socket, is open to other users",
                hint="remove it, or set INGEST_STATE_DIR to a folder with a shorter path",
            )

    @property
    def facts(self) -> dict[str, str]:
        """Password, socket, and the program that last wrote the data."""
        try:
            facts: dict[str, str] = json.loads(self._facts.read_bytes())
            _ = facts["password"], facts["socket"]
        except (ValueError, TypeError, KeyError):
            raise RedisUnreachable(
                f"{self._facts} is damaged", hint="remove it; the jobs beside it are kept"
            ) from None
        return facts

    def remember(self, binary: Binary) -> None:
        """Note which program writes the data."""
        self._write_facts(self.facts | {"binary": str(binary.path), "version": binary.version_text})

    def _write_facts(self, facts: dict[str, str]) -> None:
        write_private(self._facts, json.dumps(facts).encode())

    @property
    def socket(self) -> Path:
        """Where the server listens."""
        return Path(self.facts["socket"])

    @property
    def url(self) -> str:
        """The server's URL, with its password."""
        facts = self.facts
        return f"unix://:{facts['password']}@{facts['socket']}"

    @contextmanager
    def start_lock(self) -> Iterator[None]:
        """Held while a server is started or stopped: one command at a time."""
        with (self.folder / "start.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def server_lock(self) -> Iterator[int]:
        """The lock that a server is to inherit and to hold while it lives, as a file descriptor."""
        with (self.folder / "server.lock").open("a") as file:
            give_up = time.monotonic() + _LOCK_PATIENCE_S  # others hold it for an instant, to look
            while not _try_lock(file.fileno(), fcntl.LOCK_EX):
                if time.monotonic() > give_up:
                    raise RedisUnreachable(f"{file.name} is held by another process")
                time.sleep(0.02)
            yield file.fileno()

    def server_lives(self) -> bool:
        """Whether a server process, on this machine or another, has this folder."""
        with (self.folder / "server.lock").open("a") as file:
            return not _try_lock(file.fileno(), fcntl.LOCK_SH)

    def log_tail(self, lines: int = 8) -> str:
        """The end of the server's log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def write_private(path: Path, data: bytes) -> None:
    """Replace a file, whole or not at all, by one that only its owner may read."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
