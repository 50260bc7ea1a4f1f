"""The host keys of devices, by the devices' names: a file of our own, in OpenSSH's form."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from ingest.errors import SourceRefused

FILE_NAME = "known_hosts"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")

_NEW = (
    "if the tag was set up anew, accept its new key with `ingest tags trust {name}`; if not, something else answers in "
    "its place"
)
_OTHERS = (
    "as a rule {other} has its address now: `ingest tags list` shows where {name} is, so give {name}=ADDRESS; only if "
    "the tag was set up anew as a copy of {other}, accept the key with `ingest tags trust {name}`"
)


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
        """The device that was the last to show this key, or None. Several have it where one was renamed, or copied."""
        return next((entry.hostnames[0] for entry in reversed(self._read()) if entry.key == key), None)

    def ensure(self, name: str, key: paramiko.PKey) -> None:
        """Refuse a key that is not the one that the device has shown before. A first one passes.

        Raises:
            SourceRefused: it is another.
        """
        known = self.keys(name)
        if known and key not in known:
            other = self.name_of(key)
            raise SourceRefused(
                f"the host key of {name} has changed: it was {known[0].fingerprint}, "
                f"what answers now has {key.fingerprint}{f', as {other} has' if other else ''}",
                hint=_OTHERS.format(name=name, other=other) if other else _NEW.format(name=name),
            )

    def record(self, name: str, key: paramiko.PKey) -> None:
        """Remember a device's first key. May be repeated.

        Raises:
            SourceRefused: it has shown another before, or this is no name.
        """
        with self._locked():
            self.ensure(name, key)
            if not self.keys(name):
                self._write([*self._read(), _entry_of(name, key)])

    def replace(self, name: str, key: paramiko.PKey) -> None:
        """Take this key for the device's from now on, whatever it was before.

        Raises:
            SourceRefused: this is no name.
        """
        with self._locked():
            others = [entry for entry in self._read() if name not in entry.hostnames]
            self._write([*others, _entry_of(name, key)])

    def check(self) -> None:
        """Look whether the file can be read.

        Raises:
            SourceRefused: it cannot, or is damaged, and so nobody can be trusted.
        """
        self._read()

    def _read(self) -> list[HostKeyEntry]:
        try:
            lines = self.path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SourceRefused(
                f"the host keys in {self.path} cannot be read: {error.strerror}",
                hint="make it a file that is readable",
            ) from error
        entries = []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith("#"):
                entries.append(self._entry(line, number))
        return entries

    def _entry(self, line: str, number: int) -> HostKeyEntry:
        try:
            entry = HostKeyEntry.from_line(line, number)
        except (paramiko.SSHException, InvalidHostKey, ValueError):
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
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self.path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise SourceRefused(
                f"the host key cannot be recorded in {self.path}: {error.strerror}",
                hint="make room there, or make the folder writable",
            ) from error


def _entry_of(name: str, key: paramiko.PKey) -> HostKeyEntry:
    """A line of the file. A device says its name itself: a comma, a blank or a line break in it would make more of it.

    Raises:
        SourceRefused: it is no name.
    """
    if not _NAME.fullmatch(name):
        raise SourceRefused(f"{name!r} is no name that a device may have")
    return HostKeyEntry([name], key)
