"""The host keys of devices, by the devices' names: a file of our own, in OpenSSH's form."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry

from ingest.errors import SourceRefused

FILE_NAME = "known_hosts"


class KnownHosts:
    """The keys in a file. Several processes may use it at once.

    A device is known by its name, not by its address: addresses are given out anew each day.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def keys(self, name: str) -> list[paramiko.PKey]:
        """The keys that a device has shown before."""
        return [entry.key for entry in self._read() if name in entry.hostnames]

    def name_of(self, key: paramiko.PKey) -> str | None:
        """The device that has shown this key before, or None."""
        return next((entry.hostnames[0] for entry in self._read() if entry.key == key), None)

    def ensure(self, name: str, key: paramiko.PKey) -> None:
        """Refuse a key that is not the one that the device has shown before. A first one passes.

        Raises:
            SourceRefused: it is another.
        """
        known = self.keys(name)
        if known and key not in known:
            raise SourceRefused(
                f"the host key of {name} has changed: it was {known[0].fingerprint}, "
                f"what answers now has {key.fingerprint}",
                hint=f"if the tag was set up anew, accept its new key with `ingest tags trust {name}`; "
                "if not, something else answers in its place",
            )

    def record(self, name: str, key: paramiko.PKey) -> None:
        """Remember a device's first key. May be repeated.

        Raises:
            SourceRefused: it has shown another before.
        """
        with self._locked():
            self.ensure(name, key)
            if not self.keys(name):
                self._write([*self._read(), HostKeyEntry([name], key)])

    def replace(self, name: str, key: paramiko.PKey) -> None:
        """Take this key for the device's from now on, whatever it was before."""
        with self._locked():
            others = [entry for entry in self._read() if name not in entry.hostnames]
            self._write([*others, HostKeyEntry([name], key)])

    def _read(self) -> list[HostKeyEntry]:
        try:
            lines = self.path.read_text().splitlines()
        except FileNotFoundError:
            return []
        entries = []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith("#"):
                entries.append(self._entry(line, number))
        return entries

    def _entry(self, line: str, number: int) -> HostKeyEntry:
        try:
            entry = HostKeyEntry.from_line(line, number)
        except (paramiko.SSHException, ValueError):
            entry = None
        if entry is None or not entry.hostnames:
            raise SourceRefused(f"line {number} of {self.path} is no host key", hint="remove the line")
        return entry

    def _write(self, entries: list[HostKeyEntry]) -> None:
        new = self.path.with_suffix(".new")
        with new.open("w") as file:
            file.writelines(entry.to_line() or "" for entry in entries)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
