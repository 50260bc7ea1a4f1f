"""``ingest join``: help with a job from this machine."""

from __future__ import annotations

from importlib import import_module

import click

from ingest.cli.node_process import NodeProcess
from ingest.cli.options import job_option, join_options, load_settings
from ingest.cli.output import json_alone


@click.command("join")
@job_option
@join_options
def command(job_id: str, processes: int | None, as_json: bool) -> int:
    """Help with a job from this machine, until it has ended.

    The machine needs the same INGEST_REDIS_URL, and sees the job's sources under the same paths.
    Ctrl-C stops this node alone: it finishes what it has in hand, and nothing is lost.

    \b
    Example:
      ingest join -j k7f3q2xm
      ingest join -j k7f3q2xm -p 4 --json
    """
    with (
        json_alone(as_json),
        NodeProcess(processes) as node,
    ):  # loads while this process loads, and looks at the job
        settings = load_settings()
        code: int = import_module("ingest.cli.joining").join(job_id, settings, node, as_json=as_json)
        return code
