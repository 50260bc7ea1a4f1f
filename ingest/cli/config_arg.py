"""What several commands begin with: the machine's settings, its Redis, and a job's config."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ingest.cli.output import note
from ingest.config import Settings
from ingest.redis_server import redis_url

Function = TypeVar("Function", bound=Callable[..., Any])


def load_settings() -> Settings:
    """The settings of this machine; also turns on logging as they say."""
    settings = Settings.load()
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    return settings


def open_redis(settings: Settings) -> str:
    """The URL of the Redis to use. Says so where it had to start the bundled one."""
    return redis_url(settings, note)


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
        click.argument("config", type=click.Path(path_type=Path)),
    ):
        function = decorate(function)
    return function
