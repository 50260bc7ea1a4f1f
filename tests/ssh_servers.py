"""Real SSH servers for tests: a simulated tag (asyncssh), which may vanish and lie, and OpenSSH's own sshd."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import psutil
import pytest

from ingest.ssh.connection import Address, Connection, Login, connect
from ingest.ssh.known_hosts import KnownHosts
from tests.chaos.tcp_proxy import Loop
from tests.needs import require
from tests.s3_servers import free_port

TAG = "wt-a1b2c3d4"
USER, PASSWORD = "pi", "for-tests-only"
SERVICE = "ceti-tag-data-capture"


@dataclass
class SimulatedTag:
    """A tag on loopback. Its ``/data`` is ``data``; what it serves is counted.

    Attributes:
        breaks_at_bytes: when it has served so many bytes of files, it vanishes.
        commands: what it was asked to run.
        programs: what it has; ``sha256sum`` may be taken away.
    """

    loop: Loop
    folder: Path
    name: str = TAG
    service_state: str = "active"
    programs: set[str] = field(
        default_factory=lambda: {"sha256sum", "systemctl", "df", "hostname", "dpkg-query"}
    )
    breaks_at_bytes: int | None = None
    most_read_bytes: int = 1 << 20
    served_bytes: int = 0
    removed: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    host: str = "127.0.0.1"
    port: int = 0
    _server: Any = None
    _open: set[Any] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.user_key = self.folder / "user_key"
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(self.user_key)

    @property
    def data(self) -> Path:
        """The folder that is its ``/data``."""
        return self.folder / "root" / "data"

    @property
    def address(self) -> Address:
        """Where it answers."""
        return Address(self.host, self.port)

    def start(self) -> None:
        """Come (back); at the same port as before."""
        self._server = self.loop.do(self._listen())
        self.port = self._server.get_port()

    def vanish(self) -> None:
        """Be out of reach from now on; what is open breaks."""
        self.loop.do(self._close())

    def take_login_of(self, other: SimulatedTag) -> None:
        """Let in who may log in to another tag."""
        self.user_key.write_bytes(other.user_key.read_bytes())
        self.vanish()
        self.start()

    async def _listen(self) -> Any:
        public = asyncssh.read_private_key(self.user_key).export_public_key()
        return await asyncssh.create_server(
            lambda: _Login(self),
            self.host,
            self.port,
            server_host_keys=[self.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(public.decode()),
            process_factory=self._run,
            sftp_factory=lambda channel: _Files(self, channel),
            encoding=None,
            reuse_address=True,
        )

    async def _close(self) -> None:
        self._break()
        if self._server is not None:
            await self._server.wait_closed()

    def _break(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            connection.abort()

    def serve(self, data: bytes) -> bytes:
        """Count what is served, and vanish when that is due."""
        self.served_bytes += len(data)
        if self.breaks_at_bytes is not None and self.served_bytes >= self.breaks_at_bytes:
            self.breaks_at_bytes = None
            self._break()
        return data

    async def _run(self, process: Any) -> None:
        self.commands.append(process.command)
        words = shlex.split(process.command)
        status, said = self._answer(words[2:] if words[:2] == ["sudo", "-n"] else words)
        with suppress(BrokenPipeError, asyncssh.Error):
            process.stdout.write(said)
            process.exit(status)

    def _answer(self, words: list[str]) -> tuple[int, bytes]:
        match words:
            case [program, *_] if program not in self.programs:
                return 127, b""
            case ["hostname"]:
                return 0, self.name.encode() + b"\n"
            case ["sha256sum", "<", path]:
                return self._sha256(path)
            case ["systemctl", "is-active", _]:
                return (0 if self.service_state == "active" else 3), self.service_state.encode() + b"\n"
            case ["systemctl", ("stop" | "start") as what, _]:
                self.service_state = "active" if what == "start" else "inactive"
                return 0, b""
            case ["df", *_]:
                return (
                    0,
                    b"Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 1000 1 999 1% /data\n",
                )
            case ["dpkg-query", *_]:
                return 0, b"2.3-1"
        return 1, b""

    def _sha256(self, path: str) -> tuple[int, bytes]:
        if path == "/dev/null":
            return 0, b"e3b0  -\n"
        try:
            body = (self.folder / "root" / path.lstrip("/")).read_bytes()
        except OSError:
            return 1, b""
        return 0, hashlib.sha256(body).hexdigest().encode() + b"  -\n"

    def login(self, *, password: str | None = None) -> Login:
        """How to log in: by its key, or by a password."""
        return Login(USER, None if password else self.user_key, password)

    def connect(self, known_hosts: KnownHosts) -> Connection:
        """A connection to it."""
        return connect(self.name, [self.address], self.login(), known_hosts)


class _Login(asyncssh.SSHServer):
    def __init__(self, tag: SimulatedTag) -> None:
        self._tag = tag
        self._connection: Any = None

    def connection_made(self, conn: Any) -> None:
        self._connection = conn
        self._tag._open.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tag._open.discard(self._connection)

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        self._tag.logins.append(password)
        return (username, password) == (USER, PASSWORD)


class _Files(asyncssh.SFTPServer):
    def __init__(self, tag: SimulatedTag, channel: Any) -> None:
        super().__init__(channel, chroot=os.fsencode(tag.folder / "root"))
        self._tag = tag

    async def read(self, file_obj: Any, offset: int, size: int) -> bytes:
        await asyncio.sleep(0)
        read: Any = super().read(file_obj, offset, min(size, self._tag.most_read_bytes))
        return self._tag.serve(await read if asyncio.iscoroutine(read) else read)

    def remove(self, path: bytes) -> None:
        self._tag.removed.append(os.fsdecode(path))
        super().remove(path)


@contextmanager
def simulated_tag(folder: Path, name: str = TAG, host: str = "127.0.0.1") -> Iterator[SimulatedTag]:
    """A tag that answers."""
    with Loop() as loop:
        tag = SimulatedTag(loop, folder, name, host=host)
        tag.start()
        try:
            yield tag
        finally:
            tag.vanish()


@pytest.fixture
def tag(tmp_path: Path) -> Iterator[SimulatedTag]:
    """A simulated tag with nothing on it."""
    with simulated_tag(tmp_path / "tag") as made:
        yield made


@pytest.fixture
def known_hosts(tmp_path: Path) -> KnownHosts:
    """A file of host keys that is not there yet."""
    return KnownHosts(tmp_path / "state" / "known_hosts")


class OpenSsh:
    """OpenSSH's sshd, as the user who runs the tests. Its programs ``hostname`` and ``systemctl`` are scripts."""

    def __init__(self, folder: Path, name: str = TAG) -> None:
        self.folder = folder
        self.name = name
        self.user_key = folder / "user_key"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data").mkdir()
        for key in (self.user_key, folder / "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        self._write_scripts()
        self._write_config()

    @property
    def data(self) -> Path:
        """Its folder of data."""
        return self.folder / "data"

    @property
    def address(self) -> Address:
        """Where it answers."""
        return Address("127.0.0.1", self.port)

    def _write_scripts(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir()
        state = self.folder / "service"
        state.write_text("active\n")
        scripts = {
            "hostname": f"echo {self.name}",
            "sudo": 'shift; exec "$@"',
            "systemctl": (
                f"case $1 in stop) echo inactive >{state};; start) echo active >{state};; *) cat {state};; esac"
            ),
        }
        for program, script in scripts.items():
            (programs / program).write_text(f"#!/bin/sh\n{script}\n")
            (programs / program).chmod(0o755)

    def _write_config(self) -> None:
        (self.folder / "authorized_keys").write_text(self.user_key.with_suffix(".pub").read_text())
        (self.folder / "sshd_config").write_text(
            f"""Port {self.port}
ListenAddress 127.0.0.1
HostKey {self.folder}/host_key
AuthorizedKeysFile {self.folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile none
Subsystem sftp internal-sftp
SetEnv PATH={self.folder}/bin:/usr/local/bin:/usr/bin:/bin
MaxStartups 100
"""
        )

    def start(self) -> None:
        """Begin to answer."""
        Path("/run/sshd").mkdir(exist_ok=True)
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(500):
            assert self._process.poll() is None, (self.folder / "log").read_text()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.02)
        raise AssertionError("sshd does not answer")

    def vanish(self) -> None:
        """Be gone, with all its sessions, as when the power fails."""
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        self._process.kill()
        self._process.wait()
        self._process = None

    @contextmanager
    def frozen_in(self, after_s: float) -> Iterator[None]:
        """From then on, and until the end of this, its network acknowledges what comes, and nothing answers."""

        def freeze() -> None:
            for process in self._processes():
                process.suspend()

        timer = threading.Timer(after_s, freeze)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            for process in self._processes():
                process.resume()

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        own = psutil.Process(self._process.pid)
        return [own, *own.children(recursive=True)]

    def login(self) -> Login:
        """How to log in."""
        return Login(psutil.Process().username(), self.user_key)

    def connect(self, known_hosts: KnownHosts) -> Connection:
        """A connection to it."""
        return connect(self.name, [self.address], self.login(), known_hosts)


@pytest.fixture
def openssh(tmp_path: Path) -> Iterator[OpenSsh]:
    """OpenSSH's sshd with nothing in its folder of data."""
    require(Path("/usr/sbin/sshd").exists(), "sshd is not installed (`apt-get install openssh-server`)")
    require(os.access("/run", os.W_OK) or Path("/run/sshd").is_dir(), "sshd needs /run/sshd")
    server = OpenSsh(tmp_path / "openssh")
    server.start()
    try:
        yield server
    finally:
        server.vanish()
