"""A connection to a device: its key checked before anything is told to it, its name checked before it is used."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko

from ingest.errors import SourceAway, SourceRefused
from ingest.ssh.known_hosts import KnownHosts

PORT = 22
MOST_PORT = 65535
CONNECT_WITHIN_S = 10.0
SILENT_FOR_S = 20.0
"""A device that has sent nothing for so long is out of reach."""

ALIVE_EVERY_S = 5
POLL_S = 1.0
QUICK_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
# What may lie unread; paramiko keeps it in one array, which is slow to take from when it is long.
WINDOW_BYTES = 4 << 20
MOST_OUTPUT_BYTES = 1 << 20
WIRE_LOG = "ingest.ssh.wire"

NOTHING_TO_CHECK: Callable[[], None] = lambda: None  # noqa: E731


@dataclass(frozen=True, slots=True)
class Address:
    """Where a device answers."""

    host: str
    port: int = PORT

    @classmethod
    def parse(cls, text: str) -> Address:
        """``host``, ``host:port`` or ``[IPv6]:port``.

        Raises:
            ValueError: it is none of these.
        """
        host, colon, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "")
        is_port = port.isdecimal() and 0 < int(port) <= MOST_PORT
        if not host.strip("[]") or (colon and not is_port) or any(c.isspace() for c in text):
            raise ValueError(f"{text!r} is no address; expected a host, or host:port")
        return cls(host.strip("[]"), int(port) if port else PORT)

    def __str__(self) -> str:
        return self.host if self.port == PORT else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """How to log in: by a key file, an agent or the usual keys in ``~/.ssh``, and last by a password."""

    user: str
    key_file: Path | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Output:
    """What a command on the device said."""

    status: int
    stdout: bytes
    stderr: bytes


class Connection:
    """A connection to a device that has shown its key and its name. Made by :func:`connect`.

    Several threads may run commands at once.
    """

    def __init__(self, name: str, client: paramiko.SSHClient, check: Callable[[], None]) -> None:
        self.name = name
        self._client = client
        self.check = check

    @property
    def host_key(self) -> paramiko.PKey:
        """The key that the device has shown."""
        return self.transport.get_remote_server_key()

    @property
    def is_alive(self) -> bool:
        """Whether nothing is known to the contrary."""
        transport = self._client.get_transport()
        return transport is not None and transport.is_active()

    @property
    def transport(self) -> paramiko.Transport:
        """The connection itself.

        Raises:
            SourceAway: it is closed.
        """
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise away(self.name, "the connection is closed")
        return transport

    def channel(self) -> paramiko.Channel:
        """A new channel, which answers within ``POLL_S`` or raises ``TimeoutError``."""
        with reaching(self.name):
            channel = self.transport.open_session(timeout=CONNECT_WITHIN_S)
            channel.settimeout(POLL_S)
            return channel

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Within it, a channel is asked for something. A device that does not answer is let go of."""
        timer = threading.Timer(SILENT_FOR_S, self.close)  # paramiko itself waits for ever
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def run(self, command: bytes, *, within_s: float | None = None) -> Output:
        """Run a command in the device's shell. Quote what is in it: see :func:`quoted`.

        Args:
            within_s: it may be silent for so long; default: :data:`SILENT_FOR_S`. ``math.inf``: for as long as the
                device answers at all.

        Raises:
            SourceAway: the device is out of reach, or the command does not end.
            Stopped: raised by ``check``.
        """
        with reaching(self.name), self.channel() as channel:
            with self.asking():
                channel.exec_command(command)
            stdout = self._all_of(channel.recv, within_s)
            stderr = self._all_of(channel.recv_stderr, within_s)
            self.patiently(lambda: _ended(channel), within_s)
            return Output(channel.recv_exit_status(), stdout, stderr)

    def _all_of(self, receive: Callable[[int], bytes], within_s: float | None) -> bytes:
        pieces = []
        while piece := self.patiently(lambda: receive(MOST_OUTPUT_BYTES), within_s):
            pieces.append(piece)
            if sum(map(len, pieces)) > MOST_OUTPUT_BYTES:
                raise away(self.name, "a command says far more than it should")
        return b"".join(pieces)

    def patiently(self, receive: Callable[[], bytes], within_s: float | None = None) -> bytes:
        """What a channel receives next, looking at ``check`` meanwhile.

        Args:
            within_s: as in :meth:`run`.

        Raises:
            SourceAway: the device is silent, or the connection is closed.
        """
        silent_since_s = looked_s = time.monotonic()
        most_s = SILENT_FOR_S if within_s is None else within_s
        while True:
            try:
                return receive()
            except TimeoutError:
                self.check()
                _ = self.transport
                now_s = time.monotonic()
                if now_s - silent_since_s > most_s:
                    raise away(self.name, f"it has said nothing for {most_s:.0f} s") from None
                if now_s - looked_s > SILENT_FOR_S:
                    self._ensure_answers()
                    looked_s = now_s

    def _ensure_answers(self) -> None:
        """Look whether a device that is silent still serves its connections; its network does so when all else hangs.

        Raises:
            SourceAway: it does not.
        """
        with reaching(self.name), suppress(paramiko.ChannelException):  # it refuses more, and so it answers
            self.transport.open_session(timeout=CONNECT_WITHIN_S).close()

    def close(self) -> None:
        """Let go of it. May be repeated."""
        self._client.close()


def _ended(channel: paramiko.Channel) -> bytes:
    if not channel.status_event.wait(POLL_S):
        raise TimeoutError
    return b""


def quoted(*words: str | bytes) -> bytes:
    """A command of these words, so that no shell finds anything in them; surrogate escapes stand for other bytes."""
    return b" ".join(os.fsencode(shlex.quote(os.fsdecode(word))) for word in words)


def connect(
    name: str | None,
    addresses: Sequence[Address],
    login: Login,
    known_hosts: KnownHosts,
    check: Callable[[], None] = NOTHING_TO_CHECK,
) -> Connection:
    """Connect to the first address at which the device answers.

    The device's host key must be the one that it showed before; a first one is recorded when the device has told its
    name. Where another device has its address by now, the next address is tried. Where no name is given, whatever it
    says is taken; a key that is known names it where it lets nobody in.

    Raises:
        SourceAway: none of the addresses answers.
        SourceRefused: the key is another than before, the login is refused, or another device answers.
    """
    troubles: list[SourceAway] = []
    for address in addresses:
        guard = _Guard(name, known_hosts)
        try:
            return _connected(name, address, login, guard, known_hosts, check)
        except SourceRefused as error:
            error.name = guard.expected
            if isinstance(error.__cause__, paramiko.AuthenticationException):
                raise
            troubles.append(error)
        except SourceAway as error:
            troubles.append(error)
    raise next((error for error in troubles if isinstance(error, SourceRefused)), troubles[0])


def _connected(
    name: str | None,
    address: Address,
    login: Login,
    guard: _Guard,
    known_hosts: KnownHosts,
    check: Callable[[], None],
) -> Connection:
    shown = name or str(address)
    with reaching(shown):
        client = paramiko.SSHClient()
        client.set_log_channel(WIRE_LOG)
        logging.getLogger(WIRE_LOG).setLevel(logging.CRITICAL)  # what fails is raised
        client.set_missing_host_key_policy(guard)
        try:
            client.connect(
                shown,
                username=login.user,
                password=login.password,
                key_filename=str(login.key_file) if login.key_file else None,
                look_for_keys=login.key_file is None,
                sock=_socket([address]),
                timeout=CONNECT_WITHIN_S,
                banner_timeout=CONNECT_WITHIN_S,
                auth_timeout=CONNECT_WITHIN_S,
                transport_factory=guard.transport,
            )
            connection = Connection(shown, client, check)
            connection.transport.set_keepalive(ALIVE_EVERY_S)
            guard.expected = connection.name = _checked_name(connection, name)
            known_hosts.record(connection.name, connection.host_key)
        except paramiko.SSHException as error:
            meant = _meant(error, client.get_transport())
            client.close()
            raise meant from error
        except BaseException:
            client.close()
            raise
    return connection


def _meant(error: paramiko.SSHException, transport: paramiko.Transport | None) -> paramiko.SSHException:
    """The same error, as one of the login where it is one, and as none where the device was only too slow."""
    is_refused = isinstance(error, paramiko.AuthenticationException)
    if transport is None or not transport.is_active():
        return error
    if not transport.initial_kex_done or (is_refused and "timeout" in str(error)):
        return paramiko.SSHException(f"it is not ready for a login after {CONNECT_WITHIN_S:.0f} s")
    return (
        error if is_refused or transport.is_authenticated() else paramiko.AuthenticationException(str(error))
    )


def shown_key(name: str, addresses: Sequence[Address]) -> paramiko.PKey:
    """The key that what answers at an address shows, without logging in.

    Raises:
        SourceAway: nothing answers.
    """
    with reaching(name), paramiko.Transport(_socket(addresses)) as transport:
        transport.set_log_channel(WIRE_LOG)
        logging.getLogger(WIRE_LOG).setLevel(logging.CRITICAL)
        transport.start_client(timeout=CONNECT_WITHIN_S)
        return transport.get_remote_server_key()


def _socket(addresses: Sequence[Address]) -> socket.socket:
    """A connection to the first that answers, which breaks when what is sent is not acknowledged for long."""
    trouble: OSError | None = None
    for address in addresses:
        try:
            made = socket.create_connection((address.host, address.port), CONNECT_WITHIN_S)
        except OSError as error:
            trouble = trouble or error
            continue
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENT_FOR_S * 1000))
        return made
    raise trouble or ValueError("no address")


def _checked_name(connection: Connection, expected: str | None) -> str:
    name = connection.run(b"hostname").stdout.decode(errors="replace").strip()
    if not name or (expected is not None and name != expected):
        raise SourceRefused(
            f"what answers in place of {expected or connection.name} says that it is {name!r}",
            hint="look for the tag's address with `ingest tags list`",
        )
    return name


class _Guard(paramiko.MissingHostKeyPolicy):
    """Sees a host key before anything is told to the host, and refuses one that is not the device's."""

    def __init__(self, expected: str | None, known_hosts: KnownHosts) -> None:
        self.expected = expected
        self._known_hosts = known_hosts

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Called for every key, as paramiko itself is told of none."""
        self.expected = self.expected or self._known_hosts.name_of(key)
        if self.expected is not None:
            self._known_hosts.ensure(self.expected, key)

    def transport(self, sock: Any, **options: Any) -> paramiko.Transport:
        """A transport that prefers what is quick, and the kind of key that the device has shown before."""
        made = paramiko.Transport(sock, default_window_size=WINDOW_BYTES)
        security = made.get_security_options()
        security.ciphers = _first(QUICK_CIPHERS, security.ciphers)
        known = self._known_hosts.keys(self.expected) if self.expected else []
        kinds = tuple(kind for key in known for kind in _kinds_of(key))
        security.key_types = _first(kinds, security.key_types)
        return made


def _first(preferred: Sequence[str], choices: Sequence[str]) -> tuple[str, ...]:
    """The choices, those that are preferred first."""
    return (
        *[name for name in preferred if name in choices],
        *[name for name in choices if name not in preferred],
    )


def _kinds_of(key: paramiko.PKey) -> tuple[str, ...]:
    kind = key.get_name()
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)


@contextmanager
def reaching(name: str) -> Iterator[None]:
    """Within it, what SSH raises becomes what it means: the device is out of reach, or refuses.

    Raises:
        SourceAway, SourceRefused: see there.
    """
    try:
        yield
    except paramiko.AuthenticationException as error:
        raise SourceRefused(
            f"{name} refuses the login: {error}",
            hint="give the user and key (`--user`, `--key-file`, or an agent), or a password: `--ask-password`, or "
            "INGEST_TAG_PASSWORD",
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise away(name, str(error) or type(error).__name__) from error


def away(name: str, why: str) -> SourceAway:
    """What is raised for a device out of reach."""
    return SourceAway(f"{name} is out of reach: {why}", hint="its files wait until it is back")
