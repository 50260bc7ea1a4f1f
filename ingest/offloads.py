"""The record of what was offloaded from where: a file for each device, on the machine that listed it.

It says which jobs to look at before anything is erased from a device. A record is an object of JSON on a line:
``job_id``, ``device``, ``destination`` (the config's, which has no secrets), ``backup`` (the folder, or null),
``created_at`` (ISO 8601, UTC) and ``state`` (of the device's capture service before it was stopped, or null).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ingest.config import Settings
from ingest.devices import checked_id
from ingest.errors import ConfigError

FOLDER = "offloads"


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
    """Add a record, see the module, of a device's offload; on the disk when this returns."""
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
    """Add to the log of what was erased from the device that ``record`` names; on the disk when this returns."""
    _add(cleaned_path(settings, record["device"]), record)


def cleaned_path(settings: Settings, device: str) -> Path:
    """The log of what was erased from a device.

    Raises:
        ConfigError: this can be no device's ID.
    """
    return path_of(settings, device).with_name(f"{device}.cleaned.jsonl")


def _add(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    line = json.dumps(record).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line)  # in one piece, so that two processes do not mix theirs
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
