"""Templates for keys: a key is a pure function of its item, and never leaves the prefix."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from ingest.errors import KeyInvalid, did_you_mean

KEY_FIELDS: dict[str, str] = {
    "path": "the file's path below the root, with its folders and suffix",
    "parent": "the folders of `path`, with a trailing slash, or nothing",
    "name": "the file's name with its suffix",
    "stem": "the file's name without its suffix",
    "suffix": "the suffix of what is stored, with its dot, such as `.png`",
    "x": "index of the tile along a row (pixels divided by `tile_size.x`)",
    "y": "index of the tile down a column",
    "z": "index of the section",
    "t": "index of the time point",
    "resolution": "level of the image pyramid",
    "job": "the job's ID",
    "job_name": "the job's name",
    "date": "the UTC day on which the job was created, as `2026-01-31`",
}
"""Every field a key template may use, and what it stands for. Tile processors may add their own."""

MAX_KEY_BYTES = 1024  # S3's limit, https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
MAX_SEGMENT_BYTES = 255  # the limit of a name on common file systems
FILE_FIELDS = ("path", "parent", "name", "stem", "suffix")
TILE_FIELDS = ("x", "y", "z", "t", "suffix")
JOB_FIELDS = ("job", "job_name", "date", "resolution")
_NUMBERS = {"x", "y", "z", "t", "resolution"}
_FORMAT_SPEC = re.compile(r"(0\d\d?d?)?")


class KeyTemplate:
    """A checked template such as ``{date}/{path}``; fields are those of :data:`KEY_FIELDS`.

    A format such as ``{z:05}`` pads a number with zeros; nothing else of Python's format language is
    allowed, so that a template cannot reach into objects.

    Raises:
        ValueError: the template is empty, unbalanced, starts with a slash or steps out with ``..``.
    """

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("is empty; expected a template such as '{path}'")
        self.text = text
        names: list[str] = []
        literal_only = ""
        for literal, name, spec, conversion in string.Formatter().parse(text):
            literal_only += literal
            if name is None:
                continue
            if not name.isidentifier():
                raise ValueError(f"{{{name}}} is no field; {did_you_mean(name, KEY_FIELDS)}")
            padded_text = spec and name in KEY_FIELDS and name not in _NUMBERS
            if conversion or padded_text or not _FORMAT_SPEC.fullmatch(spec or ""):
                raise ValueError(
                    f"{{{name}}} has a format that is not allowed; write {{{name}}} or {{{name}:05}}"
                )
            names.append(name)
            literal_only += "x"
        try:
            checked_key(literal_only)
        except KeyInvalid as error:
            raise ValueError(f"{text!r} makes no valid key: {error.what}") from None
        self.field_names = frozenset(names)

    def keeps_paths_apart(self) -> bool:
        """Whether two different paths can never get one key: ``{path}`` is whole, the rest is the job's."""
        return (
            "path" in self.field_names
            and self.text.count("{path}") == 1
            and self.field_names <= {*JOB_FIELDS, "path"}
        )

    def runs_together(self, spans: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
        """Those of some numbers that a key does not tell, as `{y}{x}` does not: 1 and 11 make the key of 11 and 1.

        Args:
            spans: for each number its least and its greatest value.
        """
        runs: list[list[str]] = [[]]
        for literal, name, spec, _ in string.Formatter().parse(self.text):
            if literal.strip("0123456789"):
                runs.append([])
            if name is None:
                continue
            if name in spans and not _has_fixed_width(spans[name], spec or ""):
                runs[-1].append(name)
            elif name not in _NUMBERS:
                runs.append([])
        told: set[str] = set()
        while fresh := {run[0] for run in runs if len(run) == 1} - told:
            told |= fresh
            runs = [[name for name in run if name not in told] for run in runs]
        return tuple(dict.fromkeys(name for run in runs for name in run))

    def begin(self, fields: Mapping[str, str | int]) -> str:
        """What every key begins with, up to the first field that is none of these."""
        begin = ""
        for literal, name, spec, _ in string.Formatter().parse(self.text):
            begin += literal
            if name is None:
                continue
            if name not in fields:
                break
            begin += format(fields[name], spec or "")
        return begin

    def render(self, fields: Mapping[str, str | int]) -> str:
        """The key for these fields.

        Raises:
            KeyInvalid: a field is missing, or the key is not valid (see :func:`checked_key`).
        """
        try:
            return checked_key(self.text.format_map(fields))
        except KeyError as error:
            raise KeyInvalid(
                f"destination.key uses {{{error.args[0]}}}, which this item does not have",
                hint=did_you_mean(str(error.args[0]), fields),
            ) from None
        except ValueError as error:
            raise KeyInvalid(f"destination.key {self.text!r} does not fit this item: {error}") from None

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"KeyTemplate({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyTemplate) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def _validated(cls, value: object) -> KeyTemplate:
        if isinstance(value, KeyTemplate):
            return value
        if not isinstance(value, str):
            raise ValueError(  # noqa: TRY004 - pydantic reports ValueError alone
                f"expected text such as '{{path}}', found {value!r}"
            )
        return cls(value)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "examples": ["{path}", "{resolution}/{z}/{y}_{x}{suffix}"]}


def _has_fixed_width(span: tuple[int, int], spec: str) -> bool:
    """Whether all numbers of a span have as many digits in a format such as ``05``."""
    width = int(spec.rstrip("d") or 0)
    return max(width, len(str(span[0]))) == max(width, len(str(span[1])))


def checked_key(key: str) -> str:
    """``key`` itself, if it is one that every store can hold and that stays below the prefix.

    Raises:
        KeyInvalid: it is empty or too long, is not UTF-8, starts or ends with a slash, or has an empty
            segment, ``.``, ``..``, or the segment ``.ingest`` (kept for manifests) first.
    """
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        raise KeyInvalid(
            "its name is not UTF-8, so no key can be made of it", hint="rename the file (`convmv` helps)"
        ) from None
    if not key or size_bytes > MAX_KEY_BYTES:
        raise KeyInvalid(f"its key has {size_bytes} bytes; 1 to {MAX_KEY_BYTES} are allowed")
    if "\0" in key:
        raise KeyInvalid("its key has a NUL byte")
    segments = key.split("/")
    if "" in segments:
        raise KeyInvalid(f"its key {key!r} starts or ends with a slash, or has two in a row")
    if "." in segments or ".." in segments:
        raise KeyInvalid(f"its key {key!r} has a '.' or '..' and would leave the prefix")
    if segments[0] == ".ingest":
        raise KeyInvalid(
            "its key starts with '.ingest/', where manifests are kept", hint="set destination.key"
        )
    if size_bytes > MAX_SEGMENT_BYTES and any(
        len(segment.encode()) > MAX_SEGMENT_BYTES for segment in segments
    ):
        raise KeyInvalid(f"a name in its key has over {MAX_SEGMENT_BYTES} bytes")
    return key
