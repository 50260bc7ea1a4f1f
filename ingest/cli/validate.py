"""``ingest validate``: check a config, and say what it means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ingest.cli.options import config_options, load_settings
from ingest.cli.output import emit_json, json_alone, plural, printable, printable_lines
from ingest.config import JobConfig
from ingest.config.load import load_job_config
from ingest.creation import check
from ingest.preview import Plan, Previewer


@click.command("validate")
@config_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(config: Path, to: str | None, sets: Sequence[str], as_json: bool) -> int:
    """Check CONFIG, its processors and its source, and say what it means. Stores nothing.

    The exit code is 3 where the first item would fail.

    \b
    Example:
      ingest validate config.json
      ingest validate config.json --to s3://bucket/prefix --set upload.threads=8
    """
    with json_alone(as_json):
        return _validate(config, to, sets, as_json)


def _validate(config: Path, to: str | None, sets: Sequence[str], as_json: bool) -> int:
    settings = load_settings()
    checked = check(load_job_config(config, to, sets), config.absolute().parent, settings)
    previewer = Previewer(checked, settings)
    first = next(previewer.plans(), None)
    items = None if previewer.grid is None else len(previewer.grid)
    previewer.close()
    if first is None:
        raise previewer.nothing_listed()
    if as_json:
        example = {"name": first.item.name, "path": first.source, "key": first.key or None}
        if first.problem:
            example["problem"] = first.problem
        resolved = checked.model_dump(mode="json", by_alias=True)
        emit_json({"valid": True, "items": items, "first_item": example, "config": resolved})
    else:
        _show(checked, items, first)
    return 3 if first.problem else 0


def _show(config: JobConfig, items: int | None, first: Plan) -> None:
    amount = "files, as its path processor lists them" if items is None else plural(items, "tile")
    rows = {
        "job": f"{config.name}: {amount}",
        "path processor": _processor(config.path_processor.class_, config.path_processor.params),
        "tile processor": _processor(config.tile_processor.class_, config.tile_processor.params),
        "finishers": ", then ".join(_processor(one.class_, one.params) for one in config.finishers),
        "destination": config.destination.url,
        "keys": str(config.key_template),
        "first item": first.source or first.item.name,
    }
    rows = {name: printable(value) for name, value in rows.items() if value}
    if first.problem:
        rows["fails because"] = printable_lines(first.problem)
    else:
        rows["stored as"] = printable(f"{config.destination.url}/{first.key}")
    for name, value in rows.items():
        click.echo(f"{name + ':':16}{value}")
    click.echo(f"The config is valid{', but its first item would fail' if first.problem else ''}.")


def _processor(name: str, params: dict[str, Any]) -> str:
    given = ", ".join(f"{key}={_written(value)}" for key, value in params.items() if value is not None)
    return f"{name} ({given})" if given else name


def _written(value: Any) -> str:
    """As a config has it; plain text without its quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
