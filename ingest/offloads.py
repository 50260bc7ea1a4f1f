"""The record of what was offloaded from where: a file for each device, on the machine that listed it.

It says which jobs to look at before anything is erased from a device. A record is an object of JSON on a line:
``job_id``, ``device``, ``destination`` (the config's, which has no secrets), ``backup`` (the folder, or null),
``created_at`` (ISO 8601, UTC) and ``state`` (of the device's capture service before it was stopped, or null).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from ingest.config import Settings
from ingest.devices import checked_id
from ingest.errors import ConfigError
from ingest.part_files import sync_folder

FOLDER = "offloads"
TAIL_BYTES = 4096


def path_of(settings: Settings, device: str) -> Path:
    """The file of a device's records.

    Raises:
        ConfigError: this can be no device's ID.
    """
    return settings.state_dir / FOLDER / f"{checked_id(device)}.jsonl"


def append(
    settings: Settings,
    device: str,
    job_id: str,
    *,
    destination: Mapping[str, Any] | None,
    backup: Path | None,
    created_s: float,
    state: str | None = None,
) -> None:
    """Add a record, see the module, of a device's offload; on the disk when this returns.

    Raises:
        ConfigError: it cannot be written.
    """
    record = {
        "job_id": job_id,
        "device": device,
        "destination": destination,
        "backup": str(backup) if backup is not None else None,
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created_s)),
        "state": state,
    }
    _add(path_of(settings, device), record)


def log_cleaned(settings: Settings, record: Mapping[str, Any]) -> None:
    """Add to the log of what was erased from the device that ``record`` names; on the disk when this returns.

    Raises:
        ConfigError: it cannot be written.
    """
    _add(cleaned_path(settings, record["device"]), record)


def cleaned_path(settings: Settings, device: str) -> Path:
    """The log of what was erased from a device.

    Raises:
        ConfigError: this can be no device's ID.
    """
    return path_of(settings, device).with_name(f"{device}.cleaned.jsonl")


def _add(path: Path, record: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _append(path, json.dumps(record).encode() + b"\n")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", hint="make room there, or make it writable"
        ) from error


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with FileIO(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = _end_of_lines(file)
        file.truncate(end)
        file.seek(end)
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _end_of_lines(file: FileIO) -> int:
    """Where the last whole line ends. What is after it a power cut or a full disk left, and nobody was told of it."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - TAIL_BYTES)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def read(settings: Settings, device: str) -> list[dict[str, Any]]:
    """A device's records, the latest last. A line that a power cut left unfinished is passed over.

    Raises:
        ConfigError: a line in the middle is damaged.
    """
    path = path_of(settings, device)
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ConfigError(f"line {number} is damaged: {error}", place=str(path)) from None
    return records
