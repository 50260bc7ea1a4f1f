"""Configs of the Boss ingest-client, turned into ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ingest.errors import ConfigError

_SCHEMAS = ("boss-v0.1-schema", "boss-v0.2-schema")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]*")
_FORMATS = {"png": "png", "tif": "tiff", "tiff": "tiff", "jpg": "jpeg", "jpeg": "jpeg"}

_STACK = "ingestclient.plugins.stack.ZindexStack"
_CATMAID_TYPES: dict[str, int | str] = {
    "ingestclient.plugins.catmaid.CatmaidFileImageStack": 1,
    "ingestclient.plugins.catmaid.CatmaidFileImageStackZoomLevel": "4-boss",
    "ingestclient.plugins.catmaid.CatmaidDirectoryImageStack": 5,
}


def is_boss_config(raw: Mapping[str, Any]) -> bool:
    """Whether this is a config of the Boss ingest-client, by the name of its schema."""
    schema = raw.get("schema")
    return isinstance(schema, dict) and schema.get("name") in _SCHEMAS


def from_boss(raw: Mapping[str, Any], to: str | None) -> dict[str, Any]:
    """A Boss config as ours, with ``to`` as its destination.

    Boss's own stack and CATMAID processors become ours; any other keeps its dotted path, and is adapted.
    Tiles go to ``to`` instead of the backend, below the collection, experiment and channel they were for.

    Raises:
        ConfigError: there is no ``to``, or a part is missing or cannot be served; with its place in Boss's.
    """
    job = _section(raw, "ingest_job")
    if job.get("ingest_type", "tile") != "tile":
        raise ConfigError(
            f"{job['ingest_type']!r} is not served yet; 'tile' is", place="ingest_job.ingest_type"
        )
    if to is None:
        raise ConfigError("a Boss config names no destination of ours", hint="give one with --to")
    names = [_name(raw, level) for level in ("collection", "experiment", "channel")]
    path, tile = _section(raw, "client", "path_processor"), _section(raw, "client", "tile_processor")
    return {
        "name": "-".join(names)[:100],
        "ingest_job": {
            "type": "tiles",
            **{part: job[part] for part in ("extent", "tile_size", "resolution") if part in job},
        },
        "path_processor": _path_processor(path),
        "tile_processor": _tile_processor(tile, str(path.get("class"))),
        "destination": {"url": to, "key": "/".join(names) + "/{resolution}/{t}/{z}/{y}_{x}{suffix}"},
    }


def _path_processor(boss: Mapping[str, Any]) -> dict[str, Any]:
    name, params = _class_and_params(boss, "path_processor")
    if name == _STACK + "PathProcessor":
        kept = _only(params, "root_dir", "extension", "base_filename")
        return {"class": "z_stack", "params": kept}
    source_type = _CATMAID_TYPES.get(name.removesuffix("PathProcessor"))
    if source_type is not None:
        return {
            "class": "catmaid_files",
            "params": _only(params, "root_dir", "filetype") | {"source_type": source_type},
        }
    return {"class": name, "params": params}


def _tile_processor(boss: Mapping[str, Any], path_class: str) -> dict[str, Any]:
    """Ours where it does the same: CATMAID's stores whole files, as ours does for CATMAID's paths alone."""
    name, params = _class_and_params(boss, "tile_processor")
    if name == _STACK + "TileProcessor":
        if params.get("filesystem", "local") != "local":
            raise ConfigError(
                f"{params['filesystem']!r} is not served; copy the stack to a folder that each node sees",
                place="client.tile_processor.params.filesystem",
            )
        graceful = {"fail_gracefully": True} if params.get("fail_gracefully") else {}
        return {"class": "image", "params": {"format": _format(params, "extension"), **graceful}}
    of_catmaid = name.removesuffix("TileProcessor") in _CATMAID_TYPES
    if of_catmaid and path_class.removesuffix("PathProcessor") in _CATMAID_TYPES:
        return {"class": "image", "params": {"format": _format(params, "filetype")}}
    return {"class": name, "params": params}


def _format(params: Mapping[str, Any], key: str) -> str:
    place = f"client.tile_processor.params.{key}"
    if key not in params:
        raise ConfigError("is missing", place=place)
    found = _FORMATS.get(str(params[key]).lower().lstrip("."))
    if found is None:
        raise ConfigError(f"expected png, tif or jpg, found {params[key]!r}", place=place)
    return found


def _class_and_params(boss: Mapping[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    name, params = boss.get("class"), boss.get("params", {})
    if not isinstance(name, str) or not name:
        raise ConfigError("is missing", place=f"client.{kind}.class")
    if not isinstance(params, dict):
        raise ConfigError("expected an object", place=f"client.{kind}.params")
    return name, params


def _only(params: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Boss takes any parameter; these are the ones that its class reads."""
    return {key: params[key] for key in keys if key in params}


def _name(raw: Mapping[str, Any], level: str) -> str:
    name = _section(raw, "database").get(level)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be a folder's name; expected letters, digits, spaces, '.', '_' and '-'",
            place=f"database.{level}",
        )
    return name


def _section(raw: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    section: Any = raw
    for depth, key in enumerate(keys, 1):
        section = section.get(key)
        if not isinstance(section, dict):
            missing = section is None
            raise ConfigError("is missing" if missing else "expected an object", place=".".join(keys[:depth]))
    found: Mapping[str, Any] = section
    return found
