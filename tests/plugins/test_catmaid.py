from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest.errors import ConfigError, ItemError, SourceMissing
from ingest.items import FileItem, Tile
from ingest.plugins.catmaid import CatmaidFiles, CatmaidParams
from tests.plugins.making import context, tiles_job


def catmaid(root: Path, source_type: Any = 1, **job: Any) -> CatmaidFiles:
    params = CatmaidParams(root_dir=root, filetype="jpg", source_type=source_type)
    return CatmaidFiles(params, context(root, tiles_job(**job)))


@pytest.mark.parametrize(
    ("source_type", "path"),
    [(1, "7/2_1_3.jpg"), (4, "7/3/2_1.jpg"), (5, "3/7/2/1.jpg"), ("4-boss", "3/7/2_1.jpg")],
)
def test_paths_are_catmaids(tmp_path: Path, source_type: int | str, path: str) -> None:
    assert catmaid(tmp_path, source_type, resolution=3).path(Tile(1, 2, 7)) == f"{tmp_path}/{path}"


@pytest.mark.parametrize("source_type", [0, 2, 3, "4", "boss"])
def test_other_types_are_refused(tmp_path: Path, source_type: Any) -> None:
    with pytest.raises(ValueError, match="source_type"):
        catmaid(tmp_path, source_type)


def test_origin_is_the_tiles_own(tmp_path: Path) -> None:
    assert catmaid(tmp_path).origin(Tile(1, 2, 0)) == (32, 48)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    processor = catmaid(tmp_path)
    with pytest.raises(SourceMissing, match="0/0_0_0"):
        processor.open(processor.path(Tile(0, 0, 0)))


def test_files_are_no_tiles(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match="serves tiles"):
        catmaid(tmp_path).path(FileItem("a"))


def test_time_points_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no time points") as caught:
        catmaid(tmp_path, extent={"x": [0, 64], "y": [0, 48], "t": [0, 2]}).check()
    assert caught.value.place == "ingest_job.extent.t"


def test_check_wants_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        catmaid(tmp_path / "gone").check()
