"""Reading a config file, and changing single values of a config."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ingest.config.boss import from_boss, is_boss_config
from ingest.config.destination import folder_url
from ingest.config.explain import as_config_error
from ingest.config.job import JobConfig
from ingest.config.json_hints import json_hint
from ingest.config.paths import from_home
from ingest.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
SOME_TO_START_FROM = "see config/examples for configs to start from"


def load_config(path: Path) -> dict[str, Any]:
    """The JSON object in a config file, without its comments (keys that start with ``//``).

    Raises:
        ConfigError: the file is not there, not UTF-8, not JSON (with line and column), names a key twice,
            or holds something else than an object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", hint=SOME_TO_START_FROM) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; expected a config file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}",
            hint="save it in the encoding UTF-8",
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if not text.strip():
        raise ConfigError(f"{path} is empty; expected an object", hint=SOME_TO_START_FROM)
    try:
        config = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_no_constant, parse_int=_whole_number
        )
    except json.JSONDecodeError as error:
        what = f"{error.msg.removesuffix(' at')} at line {error.lineno}, column {error.colno}"
        hint = json_hint(text, error.pos)
        raise ConfigError(f"{path} is not valid JSON: {what}", hint=hint) from None
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


def _whole_number(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        raise ValueError(f"a number has {len(digits):,} digits") from None


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
        raise as_config_error(model, error, place) from None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
