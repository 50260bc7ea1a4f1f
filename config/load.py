"""Reading a config file, and turning what pydantic says into sentences with a place and a hint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ingest.config.boss import from_boss, is_boss_config
from ingest.config.job import JobConfig, folder_url
from ingest.config.paths import from_home
from ingest.errors import ConfigError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
_JOB_TYPES = ("files", "tiles")


def load_config(path: Path) -> dict[str, Any]:
    """The JSON object in a config file, without its comments (keys that start with ``//``).

    Raises:
        ConfigError: the file is not there, not UTF-8, not JSON (with line and column), names a key twice,
            or holds something else than an object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no file {path}", hint="see config/examples for configs to start from"
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; expected a config file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    try:
        config = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{path} is not valid JSON: {where}: {error.msg}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} is not usable: it is nested too deeply") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds {_kind(config)}; expected an object")
    return config


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key.startswith("//"):
            continue
        if key in result:
            raise ValueError(f"the key {key!r} appears twice in one object")
        result[key] = value
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def load_job_config(path: Path, to: str | None = None, sets: Sequence[str] = ()) -> dict[str, Any]:
    """The config in a file, ours or Boss's, with the destination ``to`` and ``--set`` assignments applied.

    Raises:
        ConfigError: see :func:`load_config`, :func:`ingest.config.boss.from_boss` and :func:`set_value`.
    """
    config = load_config(path)
    url = destination_url(to) if to is not None else None
    if is_boss_config(config):
        config = from_boss(config, url)
    elif url is not None:
        set_value(config, f"destination.url={json.dumps(url)}")
    for assignment in sets:
        set_value(config, assignment)
    return config


def destination_url(to: str) -> str:
    """``--to`` as a URL: a plain folder is taken from the current directory.

    Raises:
        ConfigError: it begins with the home folder of an unknown user.
    """
    if not to or "://" in to or to.startswith(("s3:", "gs:", "az:")):  # if it is none, its check says so
        return to
    try:
        return folder_url(Path(os.path.normpath(from_home(Path(to)).absolute())))
    except ValueError as error:
        raise ConfigError(str(error), place="--to") from None


def set_value(config: dict[str, Any], assignment: str) -> None:
    """Apply ``--set a.b=c`` to a config: ``c`` is JSON where it parses as such, else text.

    Raises:
        ConfigError: the assignment has no ``=``, its path runs through something that is no object, or its value
            is a number or a nest of JSON that is too long.
    """
    place, equals, text = assignment.partition("=")
    if not equals or "" in place.split("."):
        raise ConfigError(f"--set {assignment!r} is not of the form a.b=value")
    *parents, last = place.split(".")
    target = config
    for name in parents:
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set cannot go below {name!r}, which is {_kind(target)}", place=place)
    try:
        target[last] = json.loads(text)
    except json.JSONDecodeError:
        target[last] = text
    except (ValueError, RecursionError):
        raise ConfigError("--set has a value that is too long or nested too deeply", place=place) from None


def parse_config(config: Mapping[str, Any], *, base_dir: Path | None = None) -> JobConfig:
    """The checked config. Relative paths are taken from ``base_dir``, the folder of the config file.

    Raises:
        ConfigError: for the first thing that is wrong: its place, what was expected, found, and a hint.
    """
    checked = parse_model(JobConfig, {k: v for k, v in config.items() if k != "$schema"}, base_dir=base_dir)
    try:
        checked.model_dump_json(by_alias=True)
    except ValueError as error:
        raise ConfigError(
            f"holds what cannot be written as JSON, which nodes read it as: {error}",
            hint="text must be UTF-8, and numbers finite",
        ) from None
    return checked


def parse_model(
    model: type[Model], data: Mapping[str, Any], *, place: str = "", base_dir: Path | None = None
) -> Model:
    """``data`` as ``model``; every error that pydantic finds becomes a line of one :class:`ConfigError`."""
    try:
        return model.model_validate(data, context={"base_dir": base_dir})
    except ValidationError as error:
        raise _as_config_error(model, error, place) from None


def _as_config_error(model: type[BaseModel], error: ValidationError, place: str) -> ConfigError:
    lines = [_explain(model, details, place) for details in error.errors()]
    first, *rest = lines
    what = first[1] + "".join(f"\n{where + ': ' if where else ''}{sentence}" for where, sentence, _ in rest)
    return ConfigError(what, place=first[0] or None, hint=next((hint for *_, hint in lines if hint), None))


def _explain(model: type[BaseModel], details: ErrorDetails, place: str) -> tuple[str, str, str | None]:
    """Place, sentence and hint for one of pydantic's errors."""
    location = _without_tags(details["loc"])
    where = ".".join([*([place] if place else []), *(str(part) for part in location)])
    kind, found = details["type"], details["input"]
    if kind == "extra_forbidden":
        return (
            where,
            "unknown key",
            did_you_mean(str(location[-1]), _known_keys(model, location[:-1], details)),
        )
    if kind == "missing":
        return where, "is missing", None
    message = details["msg"].removeprefix("Value error, ")
    if kind == "union_tag_invalid":
        given = str(details["ctx"]["tag"])
        return (
            f"{where}.type",
            f"expected {details['ctx']['expected_tags']}, found {given!r}",
            did_you_mean(given, _JOB_TYPES),
        )
    if kind == "union_tag_not_found":
        return f"{where}.type", "is missing; expected 'files' or 'tiles'", None
    if kind == "value_error":
        return where, message, None
    message = message[0].lower() + message[1:]
    return where, f"{message}; found {_shown(found)}", None


def _without_tags(location: tuple[int | str, ...]) -> list[int | str]:
    """The place as a person wrote it: pydantic puts the type of job behind ``ingest_job``."""
    return [
        part
        for i, part in enumerate(location)
        if not (part in _JOB_TYPES and i and location[i - 1] == "ingest_job")
    ]


def _known_keys(model: type[BaseModel], location: Sequence[int | str], details: ErrorDetails) -> list[str]:
    """The keys allowed at ``location``, following the fields' models down (a tiles job's, if it is one)."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):  # a place in a list
            continue
        field = current.model_fields.get(str(part)) if current else None
        current = _model_of(field.annotation, "tiles" in details["loc"]) if field else None
    return [field.alias or name for name, field in current.model_fields.items()] if current else []


def _model_of(annotation: Any, tiles: bool) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [m for m in (_model_of(part, tiles) for part in getattr(annotation, "__args__", ())) if m]
    return (models[-1] if tiles else models[0]) if models else None


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
