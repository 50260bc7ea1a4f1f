"""What several commands begin with: their options, and the machine's settings. Quick to import."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ingest.config import Settings

Function = TypeVar("Function", bound=Callable[..., Any])

job_option = click.option("-j", "--job", "job_id", required=True, metavar="ID", help="The job's ID.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
set_option = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="a.b=c",
    help="Set one value of the config, such as destination.endpoint_url. May be repeated.",
)


class FilledPath(click.Path):
    """A path that is not empty: a shell's variable that is not set must not stand for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty; expected a path ('.' is the current folder)", param, ctx)
        return super().convert(value, param, ctx)


def load_settings() -> Settings:
    """The settings of this machine; also turns on logging as they say."""
    from ingest.config import Settings

    settings = Settings.load()
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    return settings


def config_options(function: Function) -> Function:
    """The argument CONFIG and the options that change what it says: ``--to`` and ``--set``."""
    for decorate in (
        click.option(
            "--set",
            "sets",
            multiple=True,
            metavar="a.b=c",
            help="Change one value of the config. May be repeated.",
        ),
        click.option(
            "--to", metavar="URL", help="Destination instead of the config's: s3://…, file://… or a folder."
        ),
        click.argument("config", type=FilledPath(path_type=Path)),
    ):
        function = decorate(function)
    return function


def join_options(function: Function) -> Function:
    """The options of every command that runs a node."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line."),
        click.option(
            "-p",
            "--processes",
            type=click.IntRange(1, 1024),
            help="Processes of this node. Default: INGEST_PROCESSES, or one a core.",
        ),
    ):
        function = decorate(function)
    return function


def offload_options(function: Function) -> Function:
    """The options of every command that offloads a device: it makes a config, and a job of it."""
    for decorate in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="List files and keys; store nothing."),
        join_options,
        set_option,
    ):
        function = decorate(function)
    return function
