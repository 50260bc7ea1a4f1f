"""``ingest schema``: the JSON Schema of job configs."""

from __future__ import annotations

import json

import click

from ingest.config import JobConfig


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of job configs, for editors and other programs.

    \b
    Example:
      ingest schema > job.schema.json
    Then begin a config with  "$schema": "job.schema.json"  and editors complete and check it.
    """
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **JobConfig.model_json_schema()}
    schema["properties"]["$schema"] = {"type": "string"}
    click.echo(json.dumps(schema, indent=2))
