from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.config import TilesJob
from ingest.items import FileItem, Grid, Item, Tile, decode_item, item_id

AXES = ("x", "y", "z", "t")


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Small grids: each axis starts at a multiple of its tile size and need not end at one."""
    extent, tile_size = {}, {}
    for axis in AXES:
        size = tile_size[axis] = draw(st.integers(1, 7))
        start = draw(st.integers(0, 3)) * size
        extent[axis] = (start, start + draw(st.integers(1, 20)))
    return Grid(TilesJob.model_validate({"extent": extent, "tile_size": tile_size}))


class TestGrid:
    @given(grids())
    def test_numbers_and_tiles_go_one_to_one(self, grid: Grid) -> None:
        tiles = list(grid.tiles())

        assert len(tiles) == len(set(tiles)) == len(grid)
        assert tiles == [grid.tile(number) for number in range(len(grid))]
        assert all(tile in grid for tile in tiles)

    @given(grids())
    def test_tiles_cover_the_extent_and_no_tile_lies_outside(self, grid: Grid) -> None:
        tiles = list(grid.tiles())
        for axis in AXES:
            size = getattr(grid.tile_size, axis)
            start, stop = getattr(grid.extent, axis)
            covered = {
                p
                for index in {getattr(t, axis) for t in tiles}
                for p in range(index * size, (index + 1) * size)
            }
            assert covered >= set(range(start, stop))
            assert min(covered) == start
            assert max(covered) < stop + size - 1 or size == 1

    @given(grids())
    def test_neighbours_share_a_section(self, grid: Grid) -> None:
        sections = [(tile.t, tile.z) for tile in grid.tiles()]
        runs = [section for i, section in enumerate(sections) if i == 0 or sections[i - 1] != section]

        assert len(runs) == len(set(runs))
        assert sections == sorted(sections)

    @given(grids(), st.integers(-3, 30), st.integers(-3, 30), st.integers(-3, 30), st.integers(-3, 30))
    def test_contains_its_tiles_alone(self, grid: Grid, x: int, y: int, z: int, t: int) -> None:
        assert (Tile(x, y, z, t) in grid) == (Tile(x, y, z, t) in set(grid.tiles()))

    @given(grids(), st.data())
    def test_a_range_is_a_slice(self, grid: Grid, data: st.DataObject) -> None:
        start, stop = data.draw(st.integers(0, len(grid))), data.draw(st.integers(0, len(grid) + 5))
        assert list(grid.tiles(start, stop)) == list(grid.tiles())[start:stop]

    @pytest.mark.parametrize("number", [-1, 4])
    def test_has_no_tile_outside_its_numbers(self, number: int) -> None:
        grid = Grid(
            TilesJob.model_validate({"extent": {"x": [0, 8], "y": [0, 8]}, "tile_size": {"x": 4, "y": 4}})
        )
        with pytest.raises(IndexError, match="of a grid of 4"):
            grid.tile(number)

    def test_of_a_petabyte_costs_nothing(self) -> None:
        extent = {"x": [0, 10**6], "y": [0, 10**6], "z": [0, 10**5]}
        grid = Grid(TilesJob.model_validate({"extent": extent, "tile_size": {"x": 1000, "y": 1000}}))

        assert len(grid) == 10**11
        assert grid.tile(10**11 - 1) == Tile(999, 999, 99_999)

    def test_holds_nothing_that_is_no_tile(self) -> None:
        grid = Grid(
            TilesJob.model_validate({"extent": {"x": [0, 8], "y": [0, 8]}, "tile_size": {"x": 4, "y": 4}})
        )
        assert FileItem("a") not in grid


class TestFields:
    @pytest.mark.parametrize(
        ("path", "parent", "name", "stem", "suffix"),
        [
            ("a/b/c.tar.gz", "a/b/", "c.tar.gz", "c.tar", ".gz"),
            ("c", "", "c", "c", ""),
            (".hidden", "", ".hidden", ".hidden", ""),
            ("d.d/x", "d.d/", "x", "x", ""),
            ("x.", "", "x.", "x", "."),
            ("..x", "", "..x", ".", ".x"),
        ],
    )
    def test_of_a_file(self, path: str, parent: str, name: str, stem: str, suffix: str) -> None:
        fields = FileItem(path).fields()
        assert fields == {"path": path, "parent": parent, "name": name, "stem": stem, "suffix": suffix}

    @given(st.text(min_size=1).filter(lambda path: not path.startswith("/")))
    def test_of_a_file_join_to_its_path(self, path: str) -> None:
        fields = FileItem(path).fields()
        assert (
            f"{fields['parent']}{fields['name']}"
            == f"{fields['parent']}{fields['stem']}{fields['suffix']}"
            == path
        )

    def test_of_a_tile(self) -> None:
        assert Tile(1, 2, 3, 4).fields() == {"x": 1, "y": 2, "z": 3, "t": 4}


surrogates = st.text(st.characters(codec=None), min_size=1).map(lambda text: text + "\udcff")
items: st.SearchStrategy[Item] = st.one_of(
    st.builds(
        FileItem, surrogates | st.text(min_size=1), st.none() | st.integers(0), st.none() | st.integers()
    ),
    st.builds(Tile, *[st.integers(0, 10**9)] * 4),
)


@given(items)
def test_an_item_survives_json(item: Item) -> None:
    fields: list[Any] = json.loads(json.dumps(item.encode()))
    assert decode_item(fields) == item


def test_an_id_is_stable() -> None:
    assert item_id(Tile(1, 2, 3)) == item_id(Tile(1, 2, 3)) == "da27ed0d66821269"


@given(st.lists(st.binary(min_size=1).filter(lambda name: b"\0" not in name), unique=True, max_size=20))
def test_ids_tell_files_apart_whatever_their_bytes(names: list[bytes]) -> None:
    ids = {item_id(FileItem(name.decode(errors="surrogateescape"))) for name in names}
    assert len(ids) == len(names)
    assert all(len(one) == 16 for one in ids)
