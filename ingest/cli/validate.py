"""``ingest validate``: check a config, and say what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ingest.cli.config_arg import config_options, load_settings, read_config
from ingest.cli.output import emit_json, note, plural, printable
from ingest.config import JobConfig, Settings, TilesJob
from ingest.errors import ConfigError, ItemError, KeyInvalid
from ingest.items import Grid, Item, Tile
from ingest.naming import KeyMaker
from ingest.plugin_loader import Processors, load_processors, resolve_processors
from ingest.processors import JobContext, Source

_JOB_ID = "JOB-ID"


@click.command("validate")
@config_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(config: Path, to: str | None, sets: Sequence[str], as_json: bool) -> None:
    """Check CONFIG, its processors and its source, and say what it means. Stores nothing.

    \b
    Example:
      ingest validate config.json
      ingest validate config.json --to s3://bucket/prefix --set upload.threads=8
    """
    settings = load_settings()
    checked = resolve_processors(read_config(config, to, sets), settings, config.absolute().parent)
    facts = _facts(checked, settings)
    if as_json:
        emit_json({"valid": True, **facts, "config": checked.model_dump(mode="json", by_alias=True)})
    else:
        _show(checked, facts)


def _facts(config: JobConfig, settings: Settings) -> dict[str, Any]:
    """What can be said of a job before it is made, after its processors have looked at its source."""
    grid = Grid(config.ingest_job) if isinstance(config.ingest_job, TilesJob) else None
    context = JobContext(
        job_id=_JOB_ID,
        job_name=config.name,
        date=datetime.now(UTC).date().isoformat(),
        grid=grid,
        scratch_dir=settings.scratch,
        config=config.model_dump(mode="json", by_alias=True),
    )
    processors = load_processors(config, context, settings)
    try:
        processors.path.check()
        processors.tile.check()
        first = _first_item(processors, grid)
        return {
            "items": None if grid is None else len(grid),
            "first_item": None if first is None else _example(config, context, processors, first),
        }
    finally:
        processors.close()


def _first_item(processors: Processors, grid: Grid | None) -> Item | None:
    return next(processors.path.paths(), None) if grid is None else grid.tile(0)


def _example(
    config: JobConfig, context: JobContext, processors: Processors, item: Item
) -> dict[str, str | None]:
    """Name, path and key of an item. Reads it only where the key has fields that its uploads bring."""
    template = config.key_template
    path = processors.path.path(item)
    key: str | None = None
    try:
        fields = _upload_fields(processors, item, path) if template.unknown_fields() else {}
        key = KeyMaker(template, context, processors.tile).key(item, fields)
    except KeyInvalid as error:
        raise ConfigError(error.what, place="destination.key", hint=error.hint) from None
    except ItemError as error:
        note(f"the first item is of no use as an example: {error}")
    return {"name": item.name, "path": path, "key": key}


def _upload_fields(processors: Processors, item: Item, path: str) -> Mapping[str, str | int]:
    origin = processors.path.origin(item) if isinstance(item, Tile) else (0, 0)
    with processors.path.open(path) as local:
        upload = next(processors.tile.uploads(Source(item, local, origin)), None)
    return upload.fields if upload else {}


def _show(config: JobConfig, facts: dict[str, Any]) -> None:
    items = (
        "files, as its path processor lists them"
        if facts["items"] is None
        else plural(facts["items"], "tile")
    )
    rows = {
        "job": f"{config.name}: {items}",
        "path processor": _processor(config.path_processor.class_, config.path_processor.params),
        "tile processor": _processor(config.tile_processor.class_, config.tile_processor.params),
        "destination": config.destination.url,
        "keys": str(config.key_template),
    }
    if facts["first_item"] is None:
        raise ConfigError(
            "the source holds nothing that the path processor lists", place="path_processor.params"
        )
    rows["first item"] = facts["first_item"]["path"]
    if facts["first_item"]["key"]:
        rows["stored as"] = f"{config.destination.url}/{facts['first_item']['key']}"
    for name, value in rows.items():
        click.echo(f"{name + ':':16}{printable(value)}")
    click.echo("The config is valid.")


def _processor(name: str, params: dict[str, Any]) -> str:
    given = ", ".join(f"{key}={value}" for key, value in params.items() if value is not None)
    return f"{name} ({given})" if given else name
