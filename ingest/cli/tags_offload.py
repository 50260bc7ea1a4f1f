"""``ingest tags offload``: a job over the files of whale tags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ingest import offloads
from ingest.cli.creating import offload, show_plan
from ingest.cli.options import FilledPath, offload_options
from ingest.cli.output import note
from ingest.cli.tag_args import addressed, scan_of, tag_options
from ingest.config import JobConfig, Settings
from ingest.config.load import destination_url, set_value
from ingest.creation import check
from ingest.errors import ConfigError
from ingest.job import Job
from ingest.ssh.tag import CAPTURE_SERVICE, open_tag
from ingest.tags.discovery import Scan

AS_IT_IS_KEY = "raw/{ingest_date}/{device}/{path}"


@click.command("offload")
@click.argument("tags", nargs=-1, metavar="[TAG[=ADDRESS]]...")
@click.option("--all", "all_tags", is_flag=True, help="All tags that are found.")
@click.option("--to", required=True, metavar="URL", help="Destination: s3://…, file://… or a folder.")
@click.option(
    "--backup",
    type=FilledPath(path_type=Path),
    metavar="DIR",
    help="Folder of the backup copies. Default: `backup` in the state folder.",
)
@click.option("--no-convert", is_flag=True, help="Store every file as it is.")
@click.option("--restart-capture", is_flag=True, help="Start the capture services again when all is stored.")
@tag_options
@offload_options
def command(
    tags: Sequence[str],
    all_tags: bool,
    to: str,
    backup: Path | None,
    no_convert: bool,
    restart_capture: bool,
    networks: Sequence[str],
    port: int,
    user: str,
    key_file: Path | None,
    ask_password: bool,
    sets: Sequence[str],
    processes: int | None,
    as_json: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    """Copy all files of whale tags to a backup folder, and upload them; nothing is erased.

    Audio, CSV files and logs are converted, and compared with what they were made of, unless --no-convert is given. The
    capture service of each tag is stopped before. It is a job like any other: where it stops, `ingest join` goes on.

    \b
    Example:
      ingest tags offload wt-a1b2c3d4 --to s3://bucket --backup /media/drive/tags
      ingest tags offload --all --to s3://bucket
      ingest tags offload wt-a1b2c3d4=192.168.1.20 --to s3://bucket --no-convert
    """
    if bool(tags) == all_tags:
        raise ConfigError("name the tags to offload, or give --all", hint="`ingest tags list` shows them")
    scan, settings = scan_of(networks, port, user, key_file, ask_password=ask_password)
    named = addressed(tags, scan, settings)
    config = config_of(named, scan, to, backup=backup, convert=not no_convert)
    for assignment in sets:
        set_value(config, assignment)
    checked = check(config, Path.cwd(), settings)
    if dry_run:
        return show_plan(checked, settings, as_json)
    job, code = offload(checked, settings, processes, as_json=as_json, yes=yes)
    if code == 0:
        _say_end(job, named, settings)
        if restart_capture:
            restart(job, checked, named, scan, settings)
    elif restart_capture:
        note("the capture services that were stopped stay so, as not all is stored")
    return code


def config_of(
    tags: dict[str, str], scan: Scan, to: str, *, backup: Path | None, convert: bool
) -> dict[str, Any]:
    """The config of an offload of ``tags``, which are given by name and address."""
    params: dict[str, Any] = {"tags": tags, "user": scan.user}
    if scan.key_file is not None:
        params["key_file"] = str(scan.key_file)
    if backup is not None:
        params["backup_dir"] = str(backup.absolute())
    destination: dict[str, Any] = {"url": destination_url(to)}
    if not convert:
        destination["key"] = AS_IT_IS_KEY
    return {
        "name": "offload-" + ("-".join(tags) if len(tags) < 4 else f"{len(tags)}-tags"),
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "whale_tag", "params": params},
        "tile_processor": {"class": "tag_data" if convert else "file"},
        "destination": destination,
    }


def restart(job: Job, config: JobConfig, tags: dict[str, str], scan: Scan, settings: Settings) -> None:
    """Start the capture services that ran before this job stopped them.

    Raises:
        SourceAway, SourceUnreadable: one does not start.
    """
    service = config.path_processor.params.get("capture_service") or CAPTURE_SERVICE
    for name, address in tags.items():
        state = next(
            (one["state"] for one in offloads.read(settings, name) if one["job_id"] == job.job_id), None
        )
        if state in (None, "inactive", "failed", "unknown"):
            was = f"was {state}" if state else "was not looked at from here"
            note(
                f"{name}: its capture service {was} when this offload began, and is left as it is; if an earlier "
                f"offload stopped it, log in and run `sudo systemctl start {service}`"
            )
            continue
        tag = open_tag(name, address, settings, user=scan.user, key_file=scan.key_file)
        try:
            tag.start_capture(service)
        finally:
            tag.close()
        note(f"{name}: its capture service runs again")


def _say_end(job: Job, tags: dict[str, str], settings: Settings) -> None:
    backups = {record["backup"] for name in tags for record in offloads.read(settings, name)[-1:]}
    note(f"all files of {', '.join(tags)} are stored, with backup copies in {', '.join(sorted(backups))}")
