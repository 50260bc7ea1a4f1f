"""What the commands for tags begin with: where to look for tags, and how to log in."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ingest.cli.options import FilledPath, load_settings
from ingest.cli.output import note
from ingest.config import Settings
from ingest.errors import ConfigError
from ingest.ssh.connection import MOST_PORT, PORT
from ingest.ssh.tag import USER
from ingest.tags.discovery import Found, Scan, networks_of, not_let_in, resolved

Function = TypeVar("Function", bound=Callable[..., Any])


def tag_options(function: Function) -> Function:
    """The options that say where tags are and how to log in; see :func:`scan_of`."""
    for decorate in (
        click.option(
            "--ask-password",
            is_flag=True,
            help="Ask for the tags' password; else INGEST_TAG_PASSWORD is taken.",
        ),
        click.option(
            "--key-file",
            type=FilledPath(path_type=Path, exists=True, dir_okay=False),
            help="Private key to log in with. Default: what an agent or ~/.ssh has.",
        ),
        click.option("--user", default=USER, show_default=True, help="Who logs in."),
        click.option("--port", default=PORT, show_default=True, help="The port at which tags answer."),
        click.option(
            "--network",
            "networks",
            multiple=True,
            metavar="CIDR",
            help="Where to look, such as 192.168.1.0/24. May be repeated. Default: this machine's own networks, and "
            "192.168.11.0/24 of tags plugged in by USB.",
        ),
    ):
        function = decorate(function)
    return function


def scan_of(
    networks: Sequence[str], port: int, user: str, key_file: Path | None, *, ask_password: bool
) -> tuple[Scan, Settings]:
    """Where to look for tags, and this machine's settings, with the password where it is asked for.

    The password goes into the environment of this process, which the nodes that it starts inherit, and nowhere else.

    Raises:
        ConfigError: the port is none, or a network is.
    """
    if not 0 < port <= MOST_PORT:
        raise ConfigError(f"{port} is no port", place="--port", hint=f"from 1 to {MOST_PORT}")
    if ask_password:
        os.environ["INGEST_TAG_PASSWORD"] = click.prompt("Password of the tags", hide_input=True, err=True)
    key = key_file.absolute() if key_file is not None else None
    return Scan(networks_of(networks), port, user, key), load_settings()


def addressed(names: Sequence[str], scan: Scan, settings: Settings) -> dict[str, str]:
    """The addresses of the tags that are named, or of all; it says which servers may be further tags.

    Raises:
        ConfigError: as :func:`ingest.tags.discovery.resolved`.
    """
    unknown: list[Found] = []
    found = resolved(names, scan, settings, unknown)
    if not names and (hint := not_let_in(unknown)):
        note(hint)
    return found
