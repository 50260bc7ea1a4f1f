"""Writes the reference pages from the code: ``python docs/generate.py``.

``tests/test_docs.py`` fails where a page is not what this would write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import click
from pydantic import BaseModel

from ingest.cli import COMMANDS, main
from ingest.cli.plugins import Parameter, all_plugins, default_text, parameters
from ingest.config import Settings
from ingest.config.destination import Destination
from ingest.config.extent import Extent, FilesJob, TileSize, TilesJob
from ingest.config.job import JobConfig, ProcessorConfig, QueueConfig, UploadConfig
from ingest.config.key_template import KEY_FIELDS
from ingest.errors import EXIT_CODES

FOLDER = Path(__file__).parent / "reference"
_GENERATED = "<!-- made by docs/generate.py: do not edit -->\n\n"
CONFIG_PARTS: dict[str, type[BaseModel]] = {
    "The whole": JobConfig,
    "`ingest_job`, of type `files`": FilesJob,
    "`ingest_job`, of type `tiles`": TilesJob,
    "`ingest_job.extent`": Extent,
    "`ingest_job.tile_size`": TileSize,
    "`path_processor`, `tile_processor` and each of `finishers`": ProcessorConfig,
    "`destination`": Destination,
    "`upload`": UploadConfig,
    "`queue`": QueueConfig,
}


def pages() -> dict[str, str]:
    """Every reference page that is made from code, by file name."""
    made = {
        "commands.md": commands_page(),
        "config.md": config_page(),
        "exit-codes.md": exit_codes_page(),
        "keys.md": keys_page(),
        "plugins.md": plugins_page(),
        "settings.md": settings_page(),
    }
    return {name: _GENERATED + text.rstrip("\n") + "\n" for name, text in made.items()}


_COMPLETION = """\
To have Tab complete commands and options in bash, put this line into `~/.bashrc`; in zsh, with `zsh_source`, into
`~/.zshrc`:

```sh
eval "$(_INGEST_COMPLETE=bash_source ingest)"
```

and in fish `_INGEST_COMPLETE=fish_source ingest | source` into `~/.config/fish/completions/ingest.fish`.
"""


def commands_page() -> str:
    """Each command with its help."""
    parts = ["# Commands\n", _COMPLETION, _block(_help(main, "ingest"))]
    for name, spec in COMMANDS.items():
        if find_spec(f"ingest.cli.{spec.module}") is None:
            continue
        command = main.get_command(click.Context(main), name)
        assert command is not None
        parts.append(f"## ingest {name}\n")
        parts.append(_block(_help(command, f"ingest {name}")))
        for below, one in command.commands.items() if isinstance(command, click.Group) else ():
            parts.append(f"### ingest {name} {below}\n")
            parts.append(_block(_help(one, f"ingest {name} {below}")))
    return "\n".join(parts)


def _help(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, terminal_width=100, help_option_names=["-h", "--help"])
    return command.get_help(context)


def config_page() -> str:
    """The keys of a job config."""
    parts = [
        "# The job config\n",
        "A JSON file. Keys that start with `//` are comments; unknown keys are refused. Relative paths are\n"
        "taken from the folder of the file. `ingest schema` prints the same as JSON Schema, for editors.\n",
    ]
    for title, model in CONFIG_PARTS.items():
        parts += [f"## {title}\n", _parameter_table(model)]
    return "\n".join(parts)


def _parameter_table(model: type[BaseModel]) -> str:
    rows = [
        (f"`{one.name}`", one.type, _default(one), one.description or ("see below" * (one.type == "object")))
        for one in parameters(model)
    ]
    return _table(("key", "type", "default", "what it says"), rows)


def _default(one: Parameter) -> str:
    if one.required:
        return "(required)"
    return "" if one.type == "object" else f"`{default_text(one)}`"


def exit_codes_page() -> str:
    """The exit codes."""
    rows = [(f"`{code}`", meaning) for code, meaning in EXIT_CODES.items()]
    more = "\n`141` is what a shell sees where the reader of the output went away, as with `| head -1`.\n"
    return "# Exit codes\n\n" + _table(("code", "meaning"), rows) + more


def keys_page() -> str:
    """The fields of a key template."""
    lines = [
        "# Fields of `destination.key`\n",
        "A key is a pure function of its item: doing an item twice stores one object. `{z:05}` pads a\n"
        "number with zeros. Tile processors may add fields of their own, as [their pages](plugins.md) say.\n",
        _table(
            ("field", "what it stands for"), [(f"`{{{name}}}`", text) for name, text in KEY_FIELDS.items()]
        ),
    ]
    return "\n".join(lines)


def plugins_page() -> str:
    """The installed processors and finishers, and their parameters."""
    parts = [
        "# Processors and finishers\n",
        "`ingest plugins` lists those of your machine, yours among them.\n",
    ]
    for plugin in all_plugins(Settings()):
        parts += [f"## `{plugin.name}`, a {plugin.kind_words}\n", plugin.description + "\n"]
        rows = [
            (f"`{one.name}`", one.type, f"`{default_text(one)}`", one.description)
            for one in plugin.parameters
        ]
        table = _table(("parameter", "type", "default", "what it says"), rows)
        parts.append(table if rows else "It takes no parameters.\n")
    return "\n".join(parts)


def settings_page() -> str:
    """The settings of a machine."""
    schema = Settings.model_json_schema()["properties"]
    rows = [
        (
            f"`INGEST_{name.upper()}`",
            f"`{json.dumps(schema[name]['default'])}`" if "default" in schema[name] else "",
            text,
        )
        for name, field in Settings.model_fields.items()
        for text in [field.description or ""]
    ]
    return (
        "# Settings of a machine\n\n"
        "A variable wins over the settings file, the file over the default; an empty variable is none. The file is\n"
        "`~/.config/ingest/settings.json`, or what `INGEST_SETTINGS_FILE` names: a JSON object with the\n"
        'names in small letters and without `INGEST_`, such as `{"processes": 4}`. `ingest doctor` shows\n'
        "the values in force, and where each comes from.\n\n"
        + _table(("variable", "default", "what it says"), rows)
    )


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in _cells(headers, rows))


def _cells(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    yield list(headers)
    yield ["---"] * len(headers)
    for row in rows:
        yield [cell.replace("|", "\\|").replace("\n", " ") for cell in row]


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


def write() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        click.echo(f"wrote {FOLDER / name}")


if __name__ == "__main__":
    write()
