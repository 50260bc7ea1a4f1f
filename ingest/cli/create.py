"""``ingest create``: make a job from a config, and work on it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ingest.cli.node_process import NodeProcess
from ingest.cli.options import config_options, join_options, load_settings
from ingest.cli.output import json_alone


@click.command("create")
@config_options
@join_options
@click.option(
    "--detach",
    is_flag=True,
    help="Make the job, list what the queue has room for, and leave the rest to nodes.",
)
@click.option("--manual-complete", is_flag=True, help="Wait in state 'uploaded' for `ingest complete`.")
@click.option("--dry-run", is_flag=True, help="List sources and keys; store nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(
    config: Path,
    to: str | None,
    sets: Sequence[str],
    processes: int | None,
    as_json: bool,
    detach: bool,
    manual_complete: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    """Make a job from CONFIG, upload with this machine, and complete it.

    Other machines help with `ingest join -j ID`. With --json, one object a line is printed: first
    {"event": "created", "job_id": …}, then "progress" each second, and "ended" with the exit code.

    \b
    Example:
      ingest create config.json
      ingest create config.json --to s3://bucket/prefix --set upload.threads=64 --yes
      ingest create config.json --detach        # then on any machines: ingest join -j ID
    """
    how = (config, to, sets, as_json, manual_complete, dry_run, yes)
    if dry_run or detach:
        with json_alone(as_json):
            return _create(None, *how)
    with (
        json_alone(as_json),
        NodeProcess(processes) as node,
    ):  # loads while this process loads, checks and lists
        return _create(node, *how)


def _create(node: NodeProcess | None, *how: Any) -> int:
    settings = load_settings()
    code: int = import_module("ingest.cli.creating").create(node, settings, *how)
    return code
