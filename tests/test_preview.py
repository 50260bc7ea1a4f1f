from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from ingest.config import Settings, parse_config
from ingest.plugins.files import FileAsIs
from ingest.preview import Previewer


def previewer(folder: Path, **changes: Any) -> Previewer:
    (folder / "source").mkdir(exist_ok=True)
    raw: dict[str, Any] = {
        "name": "trial",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": str(folder / "source")}},
        "destination": {"url": f"file://{folder}/stored"},
        **changes,
    }
    return Previewer(parse_config(raw), Settings(state_dir=folder / "state", plugin_paths="tests"))


def put(folder: Path, *paths: str) -> None:
    for path in paths:
        file = folder / "source" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"12345")


def test_it_counts_shows_and_says_what_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, *[f"f{number}" for number in range(8)], ".hidden")

    seen = previewer(tmp_path).preview(60)

    assert (seen.items, seen.size_bytes, seen.is_whole, seen.problems) == (8, 40, True, 0)
    assert [plan.key for plan in seen.first] == ["f0", "f1", "f2", "f3", "f4"]
    assert seen.first[0].source == str(tmp_path / "source" / "f0")
    assert dict(seen.left_out) == {"hidden": 1}
    assert not (tmp_path / "stored").exists()


def test_it_finds_what_would_fail(tmp_path: Path) -> None:
    put(tmp_path, "a/x", "b/x", "c/y", os.fsdecode(b"caf\xe9"))

    made = previewer(tmp_path, destination={"url": f"file://{tmp_path}/stored", "key": "{name}"})
    plans = {plan.item.name: plan for plan in made.plans()}
    made.close()

    assert plans["a/x"].problem == plans["c/y"].problem == ""
    assert "'a/x' has the key 'x' too" in plans["b/x"].problem
    assert plans["caf\udce9"].problem
    seen = made.preview(60)
    assert seen.problems == 2
    assert seen.first_problem is not None
    assert seen.first_twin is not None
    assert seen.first_twin.item.name == "b/x"


class Stamped(FileAsIs):
    """Its uploads' keys hold what only the data says."""

    key_fields: ClassVar[dict[str, str]] = {"stamp": "a time in the data"}


def test_keys_that_only_the_data_gives_are_not_compared(tmp_path: Path) -> None:
    put(tmp_path, "a", "b")
    made = previewer(
        tmp_path,
        tile_processor={"class": "tests.test_preview.Stamped"},
        destination={"url": f"file://{tmp_path}/stored", "key": "{stamp}{suffix}"},
    )

    assert [(plan.key, plan.problem) for plan in made.plans()] == [("{stamp}", ""), ("{stamp}", "")]
    made.close()


def test_it_stops_in_time(tmp_path: Path) -> None:
    put(tmp_path, *[f"f{number}" for number in range(20)])

    seen = previewer(tmp_path).preview(-1)

    assert not seen.is_whole
    assert seen.items == 1


def stack_of(folder: Path, sections: int, **tile_processor: Any) -> Previewer:
    """Of a stack of images, named by their numbers."""
    return previewer(
        folder,
        ingest_job={
            "type": "tiles",
            "extent": {"x": [0, 10**6], "y": [0, 10**6], "z": [0, sections]},
            "tile_size": {"x": 10, "y": 10},
        },
        path_processor={
            "class": "z_stack",
            "params": {"root_dir": str(folder / "source"), "extension": "png", "base_filename": "<>"},
        },
        tile_processor={"class": "image", **tile_processor},
    )


def test_tiles_are_all_known_at_once(tmp_path: Path) -> None:
    put(tmp_path, "0.png")
    made = stack_of(tmp_path, 100)

    seen = made.preview(60)

    assert seen.items == 10**12
    assert len(seen.first) == 5


def test_a_tile_whose_file_is_not_there_would_fail(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    made = stack_of(tmp_path, 2)
    first = next(made.plans())
    assert first.problem == f"there is no file '{tmp_path}/source/0.png'"
    made.close()

    seen = made.preview(0.1)
    assert seen.first_problem is not None
    assert (seen.first_twin, seen.items) == (None, 2 * 10**10)

    blank = stack_of(tmp_path, 2, params={"fail_gracefully": True})
    assert next(blank.plans()).problem == ""
    blank.close()


def test_a_file_that_cannot_be_looked_at_would_fail(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    name = "a" * 300 + "<>"
    made = previewer(
        tmp_path,
        ingest_job={"type": "tiles", "extent": {"x": [0, 1], "y": [0, 1]}, "tile_size": {"x": 1, "y": 1}},
        path_processor={
            "class": "z_stack",
            "params": {"root_dir": str(tmp_path / "source"), "extension": "png", "base_filename": name},
        },
        tile_processor={"class": "image"},
    )

    assert next(made.plans()).problem.endswith("cannot be read: File name too long")
    made.close()
