"""``ingest plugins``: what processors and finishers are installed, and what parameters they take."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, get_args

import click
from pydantic import BaseModel

from ingest.boss import is_boss_class
from ingest.cli.options import load_settings
from ingest.cli.output import emit_json, table
from ingest.config import Settings
from ingest.errors import PluginError, did_you_mean
from ingest.plugin_loader import KIND_WORDS, Kind, installed, load_class
from ingest.processors import Params

KINDS: tuple[Kind, ...] = get_args(Kind)
_TYPE_WORDS = {"string": "text", "boolean": "true or false", "array": "list", None: "anything"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A plugin's parameter, as people and programs are told of it."""

    name: str
    type: str
    required: bool
    default: Any
    description: str


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed processor or finisher; ``missing`` says why it cannot be loaded here."""

    name: str
    kind: Kind
    summary: str
    description: str
    parameters: list[Parameter]
    missing: str | None = None

    @property
    def kind_words(self) -> str:
        """Its kind, for people."""
        return KIND_WORDS[self.kind]


@click.command("plugins")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each plugin.")
def command(name: str | None, as_json: bool) -> None:
    """List the installed processors and finishers; with NAME, say what one does and what parameters it takes.

    NAME may be the dotted path of a plugin of your own, such as my_plugins.Gzip.

    \b
    Example:
      ingest plugins
      ingest plugins folder
    """
    settings = load_settings()
    if name is not None and "." in name:
        found = [_by_path(name, settings)]
    else:
        found = [plugin for plugin in all_plugins(settings) if name in (None, plugin.name)]
    if name is not None and not found:
        known = {name for kind in KINDS for name in installed(kind)}
        raise PluginError(f"there is no plugin {name!r}", hint=did_you_mean(name, known))
    if as_json:
        for plugin in found:
            emit_json(asdict(plugin))
    elif name is None:
        table(["name", "kind", "what it does"], [(p.name, p.kind, p.missing or p.summary) for p in found])
    else:
        for plugin in found:
            _show(plugin)


def _by_path(name: str, settings: Settings) -> Plugin:
    """What there is to say of a plugin of the machine's own.

    Raises:
        PluginError: it may not be loaded here, or is none.
    """
    trouble: PluginError | None = None
    for kind in KINDS:
        try:
            cls = load_class(kind, name, settings)
        except PluginError as error:
            trouble = trouble or error
        else:
            if is_boss_class(cls):
                raise PluginError(
                    f"{name!r} is written for Boss, where plugins do not declare their parameters"
                )
            return _described(kind, name, cls)
    assert trouble is not None
    raise PluginError(trouble.what.partition(": ")[2], hint=trouble.hint)


def _show(plugin: Plugin) -> None:
    click.echo(f"{plugin.name}, a {plugin.kind_words}\n\n{plugin.missing or plugin.description}\n")
    if not plugin.parameters:
        click.echo("It takes no parameters.")
        return
    table(
        ["parameter", "type", "default", "what it says"],
        [(p.name, p.type, default_text(p), p.description) for p in plugin.parameters],
    )


def default_text(parameter: Parameter) -> str:
    """A parameter's default as it would be written in a config."""
    if parameter.required:
        return "(required)"
    return _json_text(parameter.default)


def _json_text(value: Any) -> str:
    return json.dumps(value, default=str)


def all_plugins(settings: Settings) -> Iterator[Plugin]:
    """Every installed plugin: path processors, tile processors, finishers, each kind by name."""
    for kind in KINDS:
        for name in sorted(installed(kind)):
            yield describe(kind, name, settings)


def describe(kind: Kind, name: str, settings: Settings) -> Plugin:
    """What there is to say of an installed plugin."""
    try:
        cls = load_class(kind, name, settings)
    except (ImportError, AttributeError, PluginError) as error:
        return Plugin(name, kind, "", "", [], missing=f"cannot be loaded here: {error}")
    return _described(kind, name, cls)


def _described(kind: Kind, name: str, cls: type[Any]) -> Plugin:
    text = inspect.cleandoc(cls.__doc__ or "")
    summary = " ".join(text.partition("\n\n")[0].split())
    model: type[Params] | None = getattr(cls, "Params", None)
    return Plugin(name, kind, summary, text, list(parameters(model)) if model else [])


def parameters(model: type[BaseModel]) -> Iterator[Parameter]:
    """The parameters that a model declares."""
    schema = model.model_json_schema(mode="validation")
    for name, field in schema.get("properties", {}).items():
        yield Parameter(
            name,
            type_text(field, schema.get("$defs", {})),
            name in schema.get("required", ()),
            field.get("default"),
            field.get("description", ""),
        )


def type_text(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON Schema type in few words: ``integer``, ``"a" or "b"``, ``list of text``."""
    if "$ref" in field:
        return type_text(definitions[field["$ref"].rpartition("/")[2]], definitions)
    values = field.get("enum", [field["const"]] if "const" in field else [])
    if values:
        return " or ".join(map(_json_text, values))
    several = field.get("anyOf") or field.get("oneOf")
    if several:
        return " or ".join(dict.fromkeys(type_text(one, definitions) for one in several))
    if field.get("type") == "array" and isinstance(field.get("items"), dict):
        return f"list of {type_text(field['items'], definitions)}"
    kind = "path" if "path" in field.get("format", "") else field.get("type")
    return _TYPE_WORDS.get(kind, str(kind))
