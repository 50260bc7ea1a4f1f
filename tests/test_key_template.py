from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.config import KeyTemplate, TilesJob, checked_key
from ingest.config.key_template import KEY_FIELDS, MAX_KEY_BYTES
from ingest.errors import KeyInvalid
from ingest.items import FileItem, Grid, Tile
from ingest.naming import KeyMaker
from ingest.plugins.files import FileAsIs
from ingest.plugins.image import ImageParams, ImageTile
from ingest.processors import JobContext, Params

JOB_FIELDS: dict[str, str | int] = {"job": "j1", "job_name": "a job", "date": "2026-01-31", "resolution": 0}
pieces = st.sampled_from(
    ["{" + name + "}" for name in KEY_FIELDS] + ["/", ".", "..", "a", "{z:03}", "{{", "}}", " "]
)
templates = st.lists(pieces, min_size=1, max_size=6).map("".join)
job_wide = st.sampled_from(["{job}", "{date}", "{job_name}", "{resolution}", "/", "a", ".", ""])
path_templates = templates | st.tuples(job_wide, job_wide, st.just("{path}"), job_wide).map("".join)
names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
paths = st.lists(names | st.sampled_from([".", "..", "a.b", ".ingest"]), min_size=1, max_size=4).map("/".join)


def template_or_none(text: str) -> KeyTemplate | None:
    try:
        return KeyTemplate(text)
    except ValueError:
        return None


class TestTemplate:
    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ("{path}", "a/b.c.txt"),
            ("{date}/{job}/{path}", "2026-01-31/j1/a/b.c.txt"),
            ("{parent}{stem}.x{suffix}", "a/b.c.x.txt"),
            ("{job_name}/{name}", "a job/b.c.txt"),
            ("{resolution:02}/{{x}}", "00/{x}"),
        ],
    )
    def test_renders(self, text: str, key: str) -> None:
        assert KeyTemplate(text).render(JOB_FIELDS | FileItem("a/b.c.txt").fields()) == key

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "is empty"),
            ("/{path}", "slash"),
            ("{path}/", "slash"),
            ("a//{path}", "two in a row"),
            ("../{path}", "'..'"),
            ("a/./{path}", "'.'"),
            (".ingest/{path}", "manifests"),
            ("{path", "expected '}'"),
            ("path}", "Single '}'"),
            ("{}", "no field"),
            ("{0}", "no field"),
            ("{path.__class__}", "no field"),
            ("{path[0]}", "no field"),
            ("{path!r}", "not allowed"),
            ("{path:>9}", "not allowed"),
            ("{path:05}", "not allowed"),
            ("{z:5}", "not allowed"),
            ("{z:{x}}", "not allowed"),
            ("{z:0999999999}", "not allowed"),
            ("a\0{path}", "NUL"),
            ("x" * 2000, "bytes"),
        ],
    )
    def test_refuses(self, text: str, reason: str) -> None:
        with pytest.raises(ValueError, match=reason.replace("{", "\\{")):
            KeyTemplate(text)

    def test_says_which_field_is_missing(self) -> None:
        with pytest.raises(KeyInvalid, match=r"uses \{clip\}, which this item does not have"):
            KeyTemplate("{clip}").render(JOB_FIELDS)

    @given(templates, paths)
    def test_never_leaves_the_prefix(self, text: str, path: str) -> None:
        template = template_or_none(text)
        if template is None:
            return
        try:
            key = template.render(JOB_FIELDS | FileItem(path).fields() | Tile(1, 2, 3).fields())
        except KeyInvalid:
            return
        assert posixpath.normpath("/prefix/" + key) == "/prefix/" + key
        assert not key.startswith((".ingest/", "/"))
        assert 0 < len(key.encode()) <= MAX_KEY_BYTES

    @given(path_templates, st.lists(paths, min_size=2, max_size=8, unique=True))
    def test_that_keeps_paths_apart_never_gives_two_one_key(self, text: str, several: list[str]) -> None:
        template = template_or_none(text)
        if template is None or not template.keeps_paths_apart():
            return
        keys: Counter[str] = Counter()
        for path in several:
            try:
                keys[template.render(JOB_FIELDS | FileItem(path).fields())] += 1
            except KeyInvalid:
                continue
        assert all(count == 1 for count in keys.values())

    @given(templates, paths)
    def test_knows_how_every_key_begins(self, text: str, path: str) -> None:
        template = template_or_none(text)
        if template is None:
            return
        try:
            key = template.render(JOB_FIELDS | FileItem(path).fields())
        except KeyInvalid:
            return
        assert key.startswith(template.begin(JOB_FIELDS))

    @pytest.mark.parametrize("text", ["{path}", "{date}/{path}.bak", "{job}{path}{resolution}"])
    def test_knows_that_it_keeps_paths_apart(self, text: str) -> None:
        assert KeyTemplate(text).keeps_paths_apart()

    @pytest.mark.parametrize(
        "text", ["{name}", "{parent}{name}", "{path}{path}", "{path}{suffix}", "{path}{clip}"]
    )
    def test_knows_where_it_may_not(self, text: str) -> None:
        assert not KeyTemplate(text).keeps_paths_apart()


class TestCheckedKey:
    @pytest.mark.parametrize("key", ["a", "a/b", "ä/ö", "a b", "...", "a/.ingest/b", ".ingestx", "x" * 255])
    def test_takes(self, key: str) -> None:
        assert checked_key(key) == key

    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            ("", "0 bytes"),
            ("/a", "slash"),
            ("a/", "slash"),
            ("a//b", "slash"),
            ("a/../b", "leave the prefix"),
            ("..", "leave the prefix"),
            (".ingest/x", "manifests"),
            (".ingest", "manifests"),
            ("a\0", "NUL"),
            ("\udcff", "not UTF-8"),
            ("x" * 256, "255 bytes"),
            ("é" * 128, "255 bytes"),
            ("a/" * 600 + "b", "1201 bytes"),
        ],
    )
    def test_refuses(self, key: str, reason: str) -> None:
        with pytest.raises(KeyInvalid, match=reason):
            checked_key(key)


class TestKeyMaker:
    def context(self, tmp_path: Path, grid: Grid | None = None) -> JobContext:
        return JobContext("j1", "a job", "2026-01-31", grid, tmp_path)

    def test_names_files(self, tmp_path: Path) -> None:
        context = self.context(tmp_path)
        keys = KeyMaker(KeyTemplate("{date}/{parent}{stem}{suffix}"), context, FileAsIs(Params(), context))
        assert keys.key(FileItem("a/b.TXT")) == "2026-01-31/a/b.TXT"
        assert keys.key(FileItem("a/b.TXT"), {"suffix": ".wav"}) == "2026-01-31/a/b.wav"

    def test_names_tiles_by_what_is_stored(self, tmp_path: Path) -> None:
        tiles = {"extent": {"x": [0, 8], "y": [0, 8]}, "tile_size": {"x": 4, "y": 4}, "resolution": 3}
        context = self.context(tmp_path, Grid(TilesJob.model_validate(tiles)))
        processor = ImageTile(ImageParams(format="tiff"), context)
        keys = KeyMaker(KeyTemplate("{resolution}/{z:04}/{y}_{x}{suffix}"), context, processor)
        assert keys.key(Tile(1, 2, 3)) == "3/0003/2_1.tif"

    def test_knows_what_all_keys_have_in_common(self, tmp_path: Path) -> None:
        class Finds(FileAsIs):
            key_fields: ClassVar[Mapping[str, str]] = {"date": "of the recording", "clip": "its number"}

        context = self.context(tmp_path)
        text = "x/{job_name}/{resolution:02}/{date}/{clip}"
        plain = KeyMaker(KeyTemplate("x/{job_name}/{date}/{path}"), context, FileAsIs(Params(), context))
        found = KeyMaker(KeyTemplate(text), context, Finds(Params(), context))
        assert (plain.begin(), plain.may_be_found) == ("x/a job/2026-01-31/", False)
        assert (found.begin(), found.may_be_found) == ("x/a job/00/", True)

    def test_takes_fields_that_a_processor_adds(self, tmp_path: Path) -> None:
        context = self.context(tmp_path)
        keys = KeyMaker(KeyTemplate("{path}/{clip:02d}"), context, FileAsIs(Params(), context))
        assert keys.key(FileItem("a"), {"clip": 7}) == "a/07"
        with pytest.raises(KeyInvalid, match="clip"):
            keys.key(FileItem("a"))
        with pytest.raises(KeyInvalid, match="does not fit this item"):
            keys.key(FileItem("a"), {"clip": "text"})
