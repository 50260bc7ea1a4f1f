from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ingest.config import load_job_config, parse_config
from ingest.config.boss import from_boss, is_boss_config
from ingest.errors import ConfigError

STACK, CATMAID = "ingestclient.plugins.stack.ZindexStack", "ingestclient.plugins.catmaid.Catmaid"


@pytest.fixture
def boss() -> dict[str, Any]:
    return {
        "schema": {"name": "boss-v0.1-schema", "validator": "BossValidatorV01"},
        "client": {
            "backend": {
                "name": "boss",
                "class": "BossBackend",
                "host": "api.theboss.io",
                "protocol": "https",
            },
            "path_processor": {
                "class": STACK + "PathProcessor",
                "params": {"root_dir": "/data", "extension": "tif", "base_filename": "s_<o:1p:4>", "note": 1},
            },
            "tile_processor": {
                "class": STACK + "TileProcessor",
                "params": {"filesystem": "local", "extension": "tif"},
            },
        },
        "database": {"collection": "col", "experiment": "exp_1", "channel": "ch 1"},
        "ingest_job": {
            "resolution": 2,
            "extent": {"x": [0, 2048], "y": [0, 1024], "z": [0, 9], "t": [0, 1]},
            "tile_size": {"x": 1024, "y": 1024, "z": 1, "t": 1},
        },
    }


def test_a_stack_becomes_ours(boss: dict[str, Any]) -> None:
    before = copy.deepcopy(boss)
    config = parse_config(from_boss(boss, "s3://bucket/prefix"))

    assert config.name == "col-exp_1-ch 1"
    assert config.path_processor.class_ == "z_stack"
    assert config.path_processor.params == {
        "root_dir": "/data",
        "extension": "tif",
        "base_filename": "s_<o:1p:4>",
    }
    assert (config.tile_processor.class_, config.tile_processor.params) == ("image", {"format": "tiff"})
    assert config.destination.url == "s3://bucket/prefix"
    assert str(config.key_template) == "col/exp_1/ch 1/{resolution}/{t}/{z}/{y}_{x}{suffix}"
    assert config.ingest_job.model_dump(mode="json") == boss["ingest_job"] | {
        "type": "tiles",
        "extent": {"x": [0, 2048], "y": [0, 1024], "z": [0, 9], "t": [0, 1]},
    }
    assert boss == before


def test_a_stack_with_blank_tiles_keeps_them(boss: dict[str, Any]) -> None:
    boss["client"]["tile_processor"]["params"]["fail_gracefully"] = True

    params = from_boss(boss, "out")["tile_processor"]["params"]

    assert params == {"format": "tiff", "fail_gracefully": True}


@pytest.mark.parametrize(
    ("family", "source_type"),
    [("FileImageStack", 1), ("FileImageStackZoomLevel", "4-boss"), ("DirectoryImageStack", 5)],
)
def test_catmaid_becomes_ours(boss: dict[str, Any], family: str, source_type: int | str) -> None:
    client = boss["client"]
    client["path_processor"] = {
        "class": f"{CATMAID}{family}PathProcessor",
        "params": {"root_dir": "/d", "filetype": "jpg"},
    }
    client["tile_processor"] = {"class": f"{CATMAID}{family}TileProcessor", "params": {"filetype": "JPG"}}

    config = from_boss(boss, "out")

    params = {"root_dir": "/d", "filetype": "jpg", "source_type": source_type}
    assert config["path_processor"] == {"class": "catmaid_files", "params": params}
    assert config["tile_processor"] == {"class": "image", "params": {"format": "jpeg"}}


def test_other_processors_keep_their_paths(boss: dict[str, Any]) -> None:
    own = {"class": "my.plugins.Paths", "params": {"a": 1}}
    boss["client"]["path_processor"] = own
    boss["client"]["tile_processor"] = {
        "class": f"{CATMAID}FileImageStackTileProcessor",
        "params": {"filetype": "png"},
    }

    config = from_boss(boss, "out")

    assert config["path_processor"] == own
    assert config["tile_processor"]["class"] == f"{CATMAID}FileImageStackTileProcessor"


def test_without_a_destination_it_says_what_to_give(boss: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--to"):
        from_boss(boss, None)


def test_volumes_are_not_served_yet(boss: dict[str, Any]) -> None:
    boss["schema"]["name"] = "boss-v0.2-schema"
    boss["ingest_job"]["ingest_type"] = "volumetric"
    with pytest.raises(ConfigError, match="not served yet") as caught:
        from_boss(boss, "out")
    assert caught.value.place == "ingest_job.ingest_type"


def test_tiles_of_the_second_version_are(boss: dict[str, Any]) -> None:
    boss["schema"]["name"] = "boss-v0.2-schema"
    boss["ingest_job"]["ingest_type"] = "tile"
    assert parse_config(from_boss(boss, "s3://b/p")).ingest_job.type == "tiles"


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        ("database.collection", "a/b", "cannot be a folder's name"),
        ("database.channel", "{path}", "cannot be a folder's name"),
        ("database.experiment", "..", "cannot be a folder's name"),
        ("database.experiment", None, "cannot be a folder's name"),
        ("database", None, "is missing"),
        ("client.tile_processor", None, "is missing"),
        ("client.path_processor", "x", "expected an object"),
        ("client.path_processor.class", "", "is missing"),
        ("client.path_processor.params", [], "expected an object"),
        ("client.tile_processor.params.filesystem", "s3", "is not served"),
        ("client.tile_processor.params.extension", "gif", "expected png, tif or jpg"),
        ("ingest_job", [], "expected an object"),
    ],
)
def test_what_is_wrong_is_named(boss: dict[str, Any], place: str, value: Any, what: str) -> None:
    *parents, last = place.split(".")
    section = boss
    for name in parents:
        section = section[name]
    section[last] = value

    with pytest.raises(ConfigError, match=what) as caught:
        from_boss(boss, "out")
    assert caught.value.place == place


@pytest.mark.parametrize(
    "raw", [{}, {"schema": "boss-v0.1-schema"}, {"schema": {"name": "other"}}, {"schema": None}]
)
def test_other_configs_are_not_boss(raw: dict[str, Any]) -> None:
    assert not is_boss_config(raw)


def test_loading_a_file_converts_it(
    boss: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boss.json").write_text(json.dumps(boss))

    raw = load_job_config(
        Path("boss.json"), to="out/../tiles", sets=["tile_processor.params.format=png", "name=mine"]
    )
    config = parse_config(raw, base_dir=Path())

    assert config.destination.url == f"file://{tmp_path}/tiles"
    assert (config.name, config.tile_processor.params) == ("mine", {"format": "png"})
