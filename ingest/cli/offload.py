"""``ingest offload``: a memory card, or a folder of devices' folders, backed up, uploaded and verified."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ingest import offloads
from ingest.card_check import CardCheck, check_card
from ingest.cli.creating import offload, show_plan
from ingest.cli.devices import destination_of
from ingest.cli.options import FilledPath, load_settings, offload_options
from ingest.cli.output import emit_json, human_bytes, note, plural, printable
from ingest.config import Settings
from ingest.config.load import destination_url
from ingest.creation import check
from ingest.device_list import DeviceList, FileDeviceList, device_list
from ingest.devices import refuse_unknown
from ingest.errors import ConfigError
from ingest.items import FileItem
from ingest.job import Job
from ingest.ledger import State
from ingest.system_names import hidden_kind

NOT_SAFE = 3
SAID_EVERY_S = 10.0
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9 ._-]")


@click.command("offload")
@click.argument("path", type=FilledPath(path_type=Path))
@click.argument("device", required=False, metavar="[DEVICE_ID]")
@click.option("--to", required=True, metavar="URL", help="Destination: s3://bucket, or a folder.")
@click.option(
    "--backup",
    type=FilledPath(path_type=Path),
    metavar="DIR",
    help="Copy each file here first, and verify the copy; a folder on another disk.",
)
@click.option(
    "--devices",
    "devices_file",
    type=FilledPath(path_type=Path),
    metavar="FILE",
    help="A list of devices in a file, instead of the destination's.",
)
@click.option(
    "--move-names",
    is_flag=True,
    help="Name files by their time, in milliseconds since 1970, instead of by their names.",
)
@click.option("--bagit", is_flag=True, help="Make the stored folder a bag (BagIt), with its files in data/.")
@click.option("--read-back", is_flag=True, help="Verify by reading everything back from the destination.")
@offload_options
def command(
    path: Path,
    device: str | None,
    to: str,
    backup: Path | None,
    devices_file: Path | None,
    move_names: bool,
    bagit: bool,
    read_back: bool,
    sets: Sequence[str],
    processes: int | None,
    as_json: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    """Back up and upload the memory card at PATH, which was in device DEVICE_ID; say whether it may be reused.

    Without DEVICE_ID, PATH holds a folder for each device, named by its ID, such as wt-a1b2c3. The IDs must be in the
    list of registered devices (`ingest devices`). Nothing is ever written to the card. Offloading it once more goes on
    where it stopped; what is there already is not copied or sent again.

    With --backup the exit code is 0 only where it is safe to reuse the card: every file on it has two verified copies.

    \b
    Example:
      ingest offload /media/card cam-07 --to s3://my-bucket --backup /media/disk/backup
      ingest offload data/ --to s3://my-bucket --dry-run      # data/wt-a1b2c3/..., data/mg-07/...
    """
    settings = load_settings()
    path = path.absolute()
    raw = offload_config(path, device, to=to, backup=backup, move_names=move_names, bagit=bagit)
    destination = destination_of(raw, sets)
    known = FileDeviceList(devices_file.absolute()) if devices_file else device_list(destination)
    devices = _registered(path, device, known)
    checked = check(raw, Path.cwd(), settings)
    if dry_run:
        return show_plan(checked, settings, as_json)

    def begun(job: Job) -> None:
        _record(job, devices, backup, settings)

    job, code = offload(checked, settings, processes, as_json=as_json, yes=yes, begun=begun)
    return _say_whether_safe(job, code, backup is not None, read_back=read_back, as_json=as_json)


def offload_config(
    path: Path, device: str | None, *, to: str, backup: Path | None, move_names: bool, bagit: bool
) -> dict[str, Any]:
    """The config of a card's job, as a person might write it.

    Args:
        device: the device that the card was in; None where its folders name the devices.
    """
    params: dict[str, Any] = {"root_dir": str(path)}
    if device is not None:
        params["device"] = device
    if backup is not None:
        params["backup_dir"] = str(backup.absolute())
    if move_names:
        params["epoch_names"] = True
    folder = "raw/{ingest_date}" + ("/{device}" if device is not None else "")
    key = "{parent}{epoch_name}" if move_names else "{path}"
    return {
        "name": "offload " + _NOT_IN_A_NAME.sub("_", device or path.name or "data")[:90],
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "card", "params": params},
        "tile_processor": {"class": "card_file"},
        "finishers": [{"class": "bagit", "params": {"folder": folder}}] if bagit else [],
        "destination": {
            "url": destination_url(to),
            "key": f"{folder}/data/{key}" if bagit else f"{folder}/{key}",
            "dedupe": "sha256",
        },
    }


def _registered(path: Path, device: str | None, known: DeviceList) -> list[str]:
    """The devices that the files are of, which are all in the list.

    Raises:
        ConfigError: one is not; or a folder of devices' folders has none.
    """
    devices = [device] if device is not None else sorted(_device_folders(path))
    if not devices:
        raise ConfigError(
            f"{path} has no folder that is named by a device's ID", hint="give the ID: ingest offload PATH ID"
        )
    refuse_unknown(devices, known.devices(), known.where)
    return devices


def _record(job: Job, devices: Sequence[str], backup: Path | None, settings: Settings) -> None:
    """Note on this machine which job has which device's files."""
    for device in devices:
        offloads.append(
            settings,
            device,
            job.job_id,
            destination=job.config.destination.model_dump(mode="json"),
            backup=backup.absolute() if backup is not None else None,
            created_s=job.record.created_s,
        )


def _device_folders(path: Path) -> Iterator[str]:
    try:
        yield from (entry.name for entry in path.iterdir() if entry.is_dir() and not hidden_kind(entry.name))
    except OSError as error:
        raise ConfigError(f"the folder {path} cannot be listed: {error.strerror}") from None


def _say_whether_safe(job: Job, code: int, has_backup: bool, *, read_back: bool, as_json: bool) -> int:
    """Verify the copies of a job that has ended, and say what that means for the card."""
    if job.status().state not in (State.COMPLETE, State.FAILED):
        return code
    looked_at = Verifying(silent=as_json).looked_at
    found = check_card(job, has_backup=has_backup, read_back=read_back, looked_at=looked_at)
    if as_json:
        emit_json(
            {
                "event": "card",
                "safe": found.is_safe,
                "files": found.files,
                "size_bytes": found.size_bytes,
                "reasons": found.reasons,
            }
        )
    else:
        for line in _lines(found):
            click.echo(printable(line))
    is_as_asked = found.is_safe if has_backup else not found.problem_count
    return code or (0 if is_as_asked else NOT_SAFE)


class Verifying:
    """Says how far the copies are verified, as all of them are read."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._files = self._size_bytes = 0
        self._say("verifying the copies")

    def looked_at(self, file: FileItem) -> None:
        """One more is done."""
        self._files += 1
        self._size_bytes += file.size_bytes or 0
        if time.monotonic() - self._said_s > SAID_EVERY_S:
            self._say(f"verifying: {plural(self._files, 'file')}, {human_bytes(self._size_bytes)} so far")

    def _say(self, text: str) -> None:
        self._said_s = time.monotonic()
        if not self._silent:
            note(text)


def _lines(found: CardCheck) -> list[str]:
    amount = f"{plural(found.files, 'file')}, {human_bytes(found.size_bytes)}"
    if found.is_safe:
        return [f"safe to reuse this card: {amount}, each with two verified copies"]
    return [f"do NOT reuse this card yet ({amount}):", *(f"  {reason}" for reason in found.reasons)]
