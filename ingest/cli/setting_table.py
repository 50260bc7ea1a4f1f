"""The settings of this machine as a table: each value, and where it comes from."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from ingest.config import Settings
from ingest.config.settings import settings_file
from ingest.redis_client import without_password


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting: its variable, its value with secrets left out, where that comes from, what it is for."""

    variable: str
    value: str | None
    source: str
    description: str


def setting_rows(settings: Settings) -> list[SettingRow]:
    """Every setting, in the order of the settings' model."""
    in_file = _file_keys()
    return [
        SettingRow(
            variable := f"INGEST_{name.upper()}",
            _shown(name, getattr(settings, name)),
            _source(name, variable, in_file),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def _shown(name: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    return without_password(str(value)) if name in Settings.secret_names else str(value)


def _source(name: str, variable: str, in_file: set[str]) -> str:
    if os.environ.get(variable):
        return "variable"
    return str(settings_file()) if name in in_file else "default"


def _file_keys() -> set[str]:
    try:
        return set(json.loads(settings_file().read_bytes()))
    except OSError:
        return set()
