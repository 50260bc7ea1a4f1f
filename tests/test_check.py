"""What a config is checked for before a job is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest.config import Settings
from ingest.creation import check
from ingest.errors import ConfigError


def _config(root: Path, **destination: Any) -> dict[str, Any]:
    return {
        "name": "checked",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": str(root)}},
        "destination": {"url": "file:///nowhere/else", **destination},
    }


def test_a_key_field_that_no_item_has_is_refused(tmp_path: Path, state_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"destination\.key: \{x\} is no field of a job over files"):
        check(_config(tmp_path, key="{x}/{path}"), tmp_path, Settings.load())


@pytest.mark.parametrize("inside", [".", "out", "a/b"])
def test_a_destination_inside_the_source_is_refused(tmp_path: Path, state_dir: Path, inside: str) -> None:
    with pytest.raises(ConfigError, match="lies inside the source"):
        check(_config(tmp_path, url=f"file://{tmp_path}/{inside}"), tmp_path, Settings.load())


def test_a_destination_beside_the_source_is_not(tmp_path: Path, state_dir: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").touch()
    config = check(
        _config(tmp_path / "source", url=f"file://{tmp_path}/source-stored"), tmp_path, Settings.load()
    )
    assert config.destination.url.endswith("source-stored")


def test_a_settings_file_that_is_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_SETTINGS_FILE", str(tmp_path / "gone.json"))
    with pytest.raises(ConfigError, match="INGEST_SETTINGS_FILE: there is no file"):
        Settings.load()
