from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError, ItemError, SourceMissing, SourceUnreadable
from ingest.items import FileItem, Tile
from ingest.plugins.image_stack import BaseName, ZStack, ZStackParams
from tests.plugins.making import context, tiles_job


def stack(root: Path, base_filename: str, extension: str = "png", **job: Any) -> ZStack:
    params = ZStackParams(root_dir=root, extension=extension, base_filename=base_filename)
    return ZStack(params, context(root, tiles_job(**job)))


class TestNames:
    @pytest.mark.parametrize(
        ("base_filename", "name"),
        [
            ("my_base_<>", "my_base_7"),
            ("<o:200>_my_base_<p:4>", "207_my_base_0007"),
            ("<o:200p:5>", "00207"),
            ("<>_<>", "7_7"),
            ("sub/<p:2>/x", "sub/07/x"),
            ("<z>", "7"),
            ("<z>/<y p:2>_<x p:2>_<t>", "7/02_01_3"),
            ("<x o:1 p:3>", "002"),
            ("<x:o:1p:3>", "002"),
            ("< y o:10 >", "12"),
            ("<x >", "1"),
            ("<o:-7>", "0"),
            ("{x}%d", "{x}%d"),
        ],
    )
    def test_follow_the_grammar(self, base_filename: str, name: str) -> None:
        assert BaseName(base_filename).name(Tile(1, 2, 7, 3)) == name

    @pytest.mark.parametrize(
        "base_filename",
        ["<q>", "<p:4o:200>", "<o:>", "<z z>", "<o:1.5>", "<xy>", "<P:4>", "<:>", "<x:>", "<xo:1>"],
    )
    def test_of_unknown_places_are_refused(self, tmp_path: Path, base_filename: str) -> None:
        with pytest.raises(ValueError, match="unknown place"):
            stack(tmp_path, base_filename)

    @pytest.mark.parametrize("base_filename", ["<", ">", "a<<>", "<>>", "<p:4", "a>b"])
    def test_that_are_unbalanced_are_refused(self, tmp_path: Path, base_filename: str) -> None:
        with pytest.raises(ValueError, match="without its other half"):
            stack(tmp_path, base_filename)

    @pytest.mark.parametrize(
        "base_filename", ["../<>", "/data/<>", "a/../../<>", "<>/../..", "a//<>", "", "./<>"]
    )
    def test_that_leave_the_root_are_refused(self, tmp_path: Path, base_filename: str) -> None:
        with pytest.raises(ValueError, match="no path below root_dir"):
            stack(tmp_path, base_filename)

    @pytest.mark.parametrize("extension", ["../x", "a/b", "", "."])
    def test_take_no_path_for_a_suffix(self, tmp_path: Path, extension: str) -> None:
        with pytest.raises(ValueError, match="extension"):
            stack(tmp_path, "<>", extension)

    def test_are_never_negative(self) -> None:
        with pytest.raises(ItemError, match="makes z -1"):
            BaseName("<o:-8>").name(Tile(0, 0, 7))

    @given(
        st.text(st.sampled_from("<>xyztop:0123456789- /."), max_size=20),
        st.tuples(*[st.integers(0, 10**6)] * 4),
    )
    def test_are_refused_or_stay_below_the_root(self, text: str, indices: tuple[int, int, int, int]) -> None:
        try:
            name = BaseName(text).name(Tile(*indices))
        except (ValueError, ItemError):
            return
        assert not {"", ".", ".."} & set(name.split("/"))
        assert "<" not in name


class TestPath:
    @pytest.mark.parametrize("extension", ["tif", ".tif"])
    def test_is_below_the_root(self, tmp_path: Path, extension: str) -> None:
        assert stack(tmp_path, "s_<p:2>", extension).path(Tile(1, 1, 2)) == f"{tmp_path}/s_02.tif"

    def test_serves_tiles_only(self, tmp_path: Path) -> None:
        with pytest.raises(ItemError, match="serves tiles"):
            stack(tmp_path, "<>").path(FileItem("a"))


class TestOrigin:
    @pytest.mark.parametrize(
        ("base_filename", "origin"),
        [("<>", (0, 0)), ("<z>_<x>", (32, 0)), ("<y>", (0, 48)), ("<x><y>", (32, 48))],
    )
    def test_is_the_tiles_own_where_the_name_uses_the_axis(
        self, tmp_path: Path, base_filename: str, origin: tuple[int, int]
    ) -> None:
        assert stack(tmp_path, base_filename).origin(Tile(1, 2, 0)) == origin


class TestOpen:
    def test_gives_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "0.png").write_bytes(b"x")
        processor = stack(tmp_path, "<>")
        with processor.open(processor.path(Tile(0, 0, 0))) as path:
            assert path.read_bytes() == b"x"

    def test_says_what_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(SourceMissing, match=r"no file '.*/5\.png'"):
            stack(tmp_path, "<>").open(f"{tmp_path}/5.png")

    def test_refuses_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SourceUnreadable, match="no regular file"):
            stack(tmp_path, "<>").open(str(tmp_path))


class TestCheck:
    def test_wants_a_folder_with_something_in_it(self, tmp_path: Path) -> None:
        root = tmp_path / "stack"
        with pytest.raises(ConfigError, match="there is no folder"):
            stack(root, "<>").check()
        root.mkdir()
        with pytest.raises(ConfigError, match="is its drive mounted"):
            stack(root, "<>").check()
        (root / "0.png").touch()
        stack(root, "<>").check()

    def test_wants_sections_told_apart(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="all sections would be the same file") as caught:
            stack(tmp_path, "section").check()
        assert caught.value.place == "path_processor.params.base_filename"

    def test_wants_time_points_told_apart(self, tmp_path: Path) -> None:
        extent = {"x": [0, 64], "y": [0, 48], "t": [0, 2]}
        with pytest.raises(ConfigError, match="all time points would be the same file"):
            stack(tmp_path, "<z>", extent=extent).check()
        (tmp_path / "0_0.png").touch()
        stack(tmp_path, "<z>_<t>", extent=extent).check()

    def test_wants_tiles(self, tmp_path: Path) -> None:
        params = ZStackParams(root_dir=tmp_path, extension="png", base_filename="<>")
        with pytest.raises(ConfigError, match="type 'tiles' only"):
            ZStack(params, context(tmp_path)).check()
