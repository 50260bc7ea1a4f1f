"""``ingest down``: stop the bundled Redis."""

from __future__ import annotations

import click

from ingest.cli.options import load_settings
from ingest.cli.output import emit_json, note, plural
from ingest.redis_server import running, stop


@click.command("down")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Stop the bundled Redis. Jobs are kept, and go on when a command starts it again.

    A Redis that INGEST_REDIS_URL names is not touched.

    \b
    Example:
      ingest down
    """
    settings = load_settings()
    server = running(settings)
    if server is not None and server.clients:
        note(
            f"{plural(server.clients, 'connection is', 'connections are')} open; nodes wait "
            f"{settings.redis_patience_s:g} s for it to come back (`ingest status` starts it)"
        )
    stopped = stop(settings)
    if as_json:
        emit_json({"stopped": stopped, "state_dir": settings.state_dir})
    elif stopped:
        click.echo(f"stopped the bundled Redis of {settings.state_dir}; jobs are kept")
    else:
        click.echo(f"no bundled Redis runs for {settings.state_dir}")
