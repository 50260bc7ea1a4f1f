"""A whale tag: its files, its capture service, and what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ingest.config import Settings
from ingest.errors import SourceUnreadable
from ingest.ssh.connection import Address, Connection, Login, Output, connect, quoted
from ingest.ssh.known_hosts import FILE_NAME, KnownHosts
from ingest.ssh.remote_files import RemoteFiles

NAME_PATTERN = "wt-[a-z0-9]{6,}"
USER = "pi"
ROOT = "/data"
CAPTURE_SERVICE = "ceti-tag-data-capture"
SWITCH_WITHIN_S = 180.0
"""systemd itself gives a service 90 s to stop, and then kills it."""

_NOT_FOUND = 127
_STATES = (
    "active",
    "activating",
    "deactivating",
    "failed",
    "inactive",
    "maintenance",
    "reloading",
    "unknown",
)


class Tag:
    """A tag, connected to when it is needed, and again after it was away. Belongs to one thread.

    Args:
        name: its host name, which is its device ID.
        addresses: where to look for it, in order.
        known_hosts: the host keys that tags have shown.
        root: the folder of its data.
        check: raises to interrupt what takes long.

    Raises:
        SourceAway, SourceRefused: it is out of reach, or refuses; from every method.
    """

    def __init__(
        self,
        name: str,
        addresses: list[Address],
        login: Login,
        known_hosts: KnownHosts,
        *,
        root: str = ROOT,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._addresses = addresses
        self._login = login
        self._known_hosts = known_hosts
        self._check = check
        self._connection: Connection | None = None
        self.files = RemoteFiles(self.connection, root)

    def connection(self) -> Connection:
        """A connection that lives, as far as is known."""
        if self._connection is not None and not self._connection.is_alive:
            self.close()
        if self._connection is None:
            self._connection = connect(
                self.name, self._addresses, self._login, self._known_hosts, self._check
            )
        return self._connection

    def capture_state(self, service: str = CAPTURE_SERVICE) -> str:
        """What systemd says of the capture service: ``active``, ``inactive``, …

        Raises:
            SourceUnreadable: it does not say.
        """
        output = self._run("systemctl", "is-active", service)
        state = output.stdout.decode(errors="replace").strip()
        if state not in _STATES:
            raise SourceUnreadable(
                f"{self.name} does not say whether its capture service {service!r} runs: {_why(output)}",
                hint="set `capture_service` to null if the tag has none; what it still writes to then fails",
            )
        return state

    def stop_capture(self, service: str = CAPTURE_SERVICE) -> None:
        """Stop the capture service. May be repeated.

        Raises:
            SourceUnreadable: it does not stop.
        """
        self._switch("stop", service)

    def start_capture(self, service: str = CAPTURE_SERVICE) -> None:
        """Start the capture service again. May be repeated.

        Raises:
            SourceUnreadable: it does not start.
        """
        self._switch("start", service)

    def _switch(self, what: str, service: str) -> None:
        output = self._run("sudo", "-n", "systemctl", what, service, within_s=SWITCH_WITHIN_S)
        if output.status == _NOT_FOUND:  # no sudo: whoever logs in may do it, or not
            output = self._run("systemctl", what, service, within_s=SWITCH_WITHIN_S)
        if output.status != 0:
            raise SourceUnreadable(
                f"{self.name} could not {what} its capture service {service!r}: {_why(output)}",
                hint=f"log in and run `sudo systemctl {what} {service}`",
            )

    def free_bytes(self) -> int | None:
        """What is left on the disk that its data lies on; None where it does not say."""
        output = self._run("df", "-Pk", self.files.root or "/")
        numbers = re.findall(rb"\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%", output.stdout)
        return int(numbers[-1][2]) * 1024 if output.status == 0 and numbers else None

    def firmware(self, service: str = CAPTURE_SERVICE) -> str | None:
        """The version of the package that has the capture service; None where it does not say."""
        output = self._run("dpkg-query", "-W", "-f", "${Version}", service)
        return output.stdout.decode(errors="replace").strip() or None if output.status == 0 else None

    def _run(self, *words: str, within_s: float | None = None) -> Output:
        return self.connection().run(quoted(*words), within_s=within_s)

    def close(self) -> None:
        """Let go of the connection. May be repeated; the tag can be used again."""
        self.files.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def open_tag(
    name: str,
    address: str,
    settings: Settings,
    *,
    user: str = USER,
    key_file: Path | None = None,
    root: str = ROOT,
    check: Callable[[], None] = lambda: None,
) -> Tag:
    """A tag, by the login and the host keys of this machine. It is not connected to yet.

    Args:
        name: its host name.
        address: where it answers, or "" for its name; it is looked for by its name too, as addresses change.

    Raises:
        ValueError: that is no address.
    """
    return Tag(
        name,
        addresses_of(name, address),
        login_of(settings, user, key_file),
        known_hosts_of(settings),
        root=root,
        check=check,
    )


def addresses_of(name: str, address: str) -> list[Address]:
    """Where to look for a tag: at the address given, then by its name, plainly and as multicast DNS has it."""
    first = Address.parse(address or name)
    named = [Address(name, first.port), Address(f"{name}.local", first.port)]
    return [first, *(one for one in named if one != first)]


def login_of(settings: Settings, user: str, key_file: Path | None) -> Login:
    """How to log in from this machine."""
    password = settings.tag_password
    return Login(user, key_file, password.get_secret_value() if password is not None else None)


def known_hosts_of(settings: Settings) -> KnownHosts:
    """The host keys that this machine has seen."""
    return KnownHosts(settings.state_dir / FILE_NAME)


def _why(output: Output) -> str:
    said = (output.stderr or output.stdout).decode(errors="replace").strip()
    return said or f"exit status {output.status}"
