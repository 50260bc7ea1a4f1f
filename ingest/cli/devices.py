"""``ingest devices``: the list of registered devices."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ingest.cli.options import FilledPath, load_settings, set_option
from ingest.cli.output import note, plural, printable
from ingest.config import Destination
from ingest.config.load import destination_url, parse_model, set_value
from ingest.device_list import DeviceList, FileDeviceList, device_list
from ingest.errors import ConfigError

Function = TypeVar("Function", bound=Callable[..., Any])


def list_options(function: Function) -> Function:
    """The options that say where the list is."""
    for decorate in (
        set_option,
        click.option(
            "--file", type=FilledPath(path_type=Path), help="A list in a file, instead of the destination's."
        ),
        click.option("--to", metavar="URL", help="The destination whose list it is: s3://…, or a folder."),
    ):
        function = decorate(function)
    return function


@click.group("devices")
def command() -> None:
    """List the registered devices, or register one. `ingest offload` refuses any other.

    The list is an object named "Device ID List.txt" at the root of the destination's bucket, an ID a line, as CETI's
    data-ingest keeps it; or a file of the same form.

    \b
    Example:
      ingest devices add cam-07 --to s3://my-bucket
      ingest devices list --to s3://my-bucket
    """


@command.command("list")
@list_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(to: str | None, file: Path | None, sets: Sequence[str], as_json: bool) -> None:
    """List the registered devices.

    \b
    Example:
      ingest devices list --to s3://my-bucket
    """
    devices = _named_list(to, file, sets).devices()
    if as_json:
        click.echo(json.dumps(devices))
    else:
        for device in devices:
            click.echo(printable(device))


@command.command("add")
@click.argument("devices", nargs=-1, required=True, metavar="ID...")
@list_options
def add_command(devices: Sequence[str], to: str | None, file: Path | None, sets: Sequence[str]) -> None:
    """Register devices. IDs that are in the list already stay as they are; nobody else's addition is lost.

    \b
    Example:
      ingest devices add cam-07 wt-a1b2c3 --to s3://my-bucket
    """
    named = _named_list(to, file, sets)
    named.add(devices)
    note(f"{plural(len(named.devices()), 'device')} in {named.where}")


def _named_list(to: str | None, file: Path | None, sets: Sequence[str]) -> DeviceList:
    load_settings()
    if (to is None) == (file is None):
        raise ConfigError("say where the list is: either --to URL or --file FILE")
    if file is not None:
        return FileDeviceList(file.absolute())
    return device_list(destination_of({"destination": {"url": destination_url(to or "")}}, sets))


def destination_of(config: dict[str, Any], sets: Sequence[str]) -> Destination:
    """The destination of a config that ``--set`` changes.

    Raises:
        ConfigError: it cannot be used.
    """
    for assignment in sets:
        set_value(config, assignment)
    return parse_model(Destination, config["destination"], place="destination", base_dir=Path.cwd())
