"""What pydantic says of a config, in sentences with a place and a hint."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ingest.errors import ConfigError, did_you_mean

_JOB_TYPES = ("files", "tiles")
_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "an object",
    "model": "an object",
    "model_attributes": "an object",
    "path": "a path",
}
"""By the begin of pydantic's names of errors."""


def as_config_error(model: type[BaseModel], error: ValidationError, place: str) -> ConfigError:
    """All that pydantic found, a line each, with the first hint that there is; the first place is the error's."""
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
        return where, in_words(details), None
    hint = (
        _description(model, location, details)
        if kind == "string_pattern_mismatch"
        else _remedy(found, details)
    )
    return where, f"{in_words(details)}; found {_shown(found)}", hint


def in_words(details: ErrorDetails) -> str:
    """What pydantic says of one value, in words that a config's author knows."""
    kind = details["type"]
    if kind == "value_error":
        return details["msg"].removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        return f"does not fit {details['ctx']['pattern']}"
    expected = _EXPECTED.get(re.sub("_(type|parsing|from_float)$", "", kind))
    if expected is not None:
        return f"expected {expected}"
    message = details["msg"].replace("Input should be", "must be").replace("should have", "must have")
    return message[0].lower() + message[1:]


def _remedy(found: object, details: ErrorDetails) -> str | None:
    """How to write what was meant, where text stands in the place of a list or an object."""
    if not isinstance(found, str) or details["type"] not in ("model_type", "dict_type", "tuple_type"):
        return None
    if found.lstrip().startswith(("{", "[")):
        return "it is text that looks like JSON, but is none: look at its quotes, brackets and commas"
    if details["type"] == "tuple_type":
        return f"write [{json.dumps(found)}]"
    is_processor = details.get("ctx", {}).get("class_name") == "ProcessorConfig"
    return f'write {{"class": {json.dumps(found)}}}' if is_processor else None


def _without_tags(location: tuple[int | str, ...]) -> list[int | str]:
    """The place as a person wrote it: pydantic puts the type of job behind ``ingest_job``."""
    return [
        part
        for i, part in enumerate(location)
        if not (part in _JOB_TYPES and i and location[i - 1] == "ingest_job")
    ]


def _known_keys(model: type[BaseModel], location: Sequence[int | str], details: ErrorDetails) -> list[str]:
    """The keys allowed at ``location``."""
    found = _model_at(model, location, details)
    return [field.alias or name for name, field in found.model_fields.items()] if found else []


def _description(model: type[BaseModel], location: Sequence[int | str], details: ErrorDetails) -> str | None:
    """What the reference says of the value at ``location``."""
    found = _model_at(model, location[:-1], details)
    field = found.model_fields.get(str(location[-1])) if found else None
    return field.description if field else None


def _model_at(
    model: type[BaseModel], location: Sequence[int | str], details: ErrorDetails
) -> type[BaseModel] | None:
    """The model of ``location``, following the fields' models down (a tiles job's, if it is one)."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):  # a place in a list
            continue
        field = current.model_fields.get(str(part)) if current else None
        current = _model_of(field.annotation, "tiles" in details["loc"]) if field else None
    return current


def _model_of(annotation: Any, tiles: bool) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [m for m in (_model_of(part, tiles) for part in getattr(annotation, "__args__", ())) if m]
    return (models[-1] if tiles else models[0]) if models else None


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
