"""Plugin classes of the Boss ingest-client, as it ships them, through our adapter."""

from __future__ import annotations

import gc
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ingest.boss import BossPathProcessor, BossTileProcessor, is_boss_class
from ingest.config import JobConfig, Settings, parse_config
from ingest.config.boss import from_boss
from ingest.errors import ConfigError, PluginError, SourceUnreadable
from ingest.items import FileItem, Grid, Tile
from ingest.plugin_loader import Processors, load_class, load_processors
from ingest.processors import JobContext, Source
from tests.needs import require

STACK, CATMAID = "ingestclient.plugins.stack.Zindex", "ingestclient.plugins.catmaid.CatmaidFileImage"
ALLOWED = Settings(plugin_paths="ingestclient.plugins")


pytestmark = [
    # Boss's file systems leave the files that they open to the garbage collector,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    # its plugins import pkg_resources, of which setuptools 67 and later warn,
    pytest.mark.filterwarnings(
        "ignore:.*pkg_resources:UserWarning", "ignore:.*pkg_resources:DeprecationWarning"
    ),
    # and Python warns of their escapes where they are compiled: once, unless the installer has done it (uv does not).
    pytest.mark.filterwarnings("ignore:.*invalid escape:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def boss_ingest_client() -> Iterator[None]:
    found = importlib.util.find_spec("ingestclient")
    require(found, "boss-ingest is not installed (`pip install -e .[dev]`)")
    yield
    gc.collect()


def job(path: str, tile: str, params: dict[str, Any], root: Path) -> JobConfig:
    return parse_config(
        {
            "name": "boss",
            "ingest_job": {
                "type": "tiles",
                "extent": {"x": [0, 64], "y": [0, 48], "z": [0, 2]},
                "tile_size": {"x": 32, "y": 24},
            },
            "path_processor": {"class": path, "params": {"root_dir": str(root)} | params},
            "tile_processor": {"class": tile, "params": params},
            "destination": {"url": "file:///nowhere"},
        }
    )


def load(config: JobConfig, scratch_dir: Path, settings: Settings = ALLOWED) -> Processors:
    grid = Grid(config.ingest_job)  # type: ignore[arg-type]
    as_json = config.model_dump(mode="json", by_alias=True)
    return load_processors(
        config, JobContext("j", "boss", "2026-01-31", grid, scratch_dir, as_json), settings
    )


def stored(processors: Processors, tile: Tile) -> bytes:
    with processors.path.open(processors.path.path(tile)) as path:
        (upload,) = processors.tile.uploads(Source(tile, path, processors.path.origin(tile)))
    return upload.body if isinstance(upload.body, bytes) else upload.body.read_bytes()


def array(data: bytes) -> NDArray[Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


@pytest.fixture
def sections(tmp_path: Path) -> Path:
    folder = tmp_path / "stack"
    folder.mkdir()
    for z in range(2):
        data = np.random.default_rng(z).integers(0, 255, (48, 64), dtype=np.uint8)
        Image.fromarray(data).save(folder / f"sec_{z + 1:03d}.png")
    return folder


STACK_PARAMS = {"extension": "png", "filesystem": "local", "base_filename": "sec_<o:1p:3>"}


def test_a_stack_comes_out_as_ours_does(sections: Path, tmp_path: Path) -> None:
    boss = load(
        job(STACK + "StackPathProcessor", STACK + "StackTileProcessor", STACK_PARAMS, sections), tmp_path
    )
    params = {"root_dir": str(sections), "extension": "png", "base_filename": "sec_<o:1p:3>"}
    config = job("z_stack", "image", {}, sections)
    ours = load(
        config.model_copy(
            update={"path_processor": config.path_processor.model_copy(update={"params": params})}
        ),
        tmp_path,
    )

    for tile in Grid(config.ingest_job).tiles():  # type: ignore[arg-type]
        assert boss.path.path(tile) == ours.path.path(tile)
        np.testing.assert_array_equal(array(stored(boss, tile)), array(stored(ours, tile)))
    assert boss.tile.suffix(Tile(0, 0, 0)) == ".png"


@pytest.mark.parametrize(
    "base_filename", ["<>", "a<o:3>", "<p:5>b", "<o:12p:4>", "<>_<o:1>_<p:2>", "d/<p:3>/<>"]
)
@pytest.mark.parametrize("z", [0, 1, 7, 123])
def test_names_are_read_as_boss_reads_them(tmp_path: Path, base_filename: str, z: int) -> None:
    extent = {"x": [0, 64], "y": [0, 48], "z": [0, 200], "t": [0, 1]}
    raw = boss_config(extent, {"root_dir": str(tmp_path), "extension": "tif", "base_filename": base_filename})
    ours = load(parse_config(from_boss(raw, "file:///nowhere")), tmp_path)
    theirs = load_class("path", STACK + "StackPathProcessor", ALLOWED)()
    theirs.setup({**raw["client"]["path_processor"]["params"], "ingest_job": raw["ingest_job"]})

    assert ours.path.path(Tile(0, 0, z)) == theirs.process(0, 0, z, 0)


@pytest.mark.parametrize("family", ["Stack", "StackZoomLevel"])
def test_catmaid_paths_are_read_as_boss_reads_them(tmp_path: Path, family: str) -> None:
    name = CATMAID + family + "PathProcessor"
    raw = boss_config(
        {"x": [0, 64], "y": [0, 48], "z": [0, 2], "t": [0, 1]}, {"root_dir": "/d", "filetype": "png"}
    )
    raw["client"]["path_processor"]["class"] = name
    ours = load(parse_config(from_boss(raw, "file:///nowhere")), tmp_path)
    theirs = load_class("path", name, ALLOWED)()
    theirs.setup({"root_dir": "/d", "filetype": "png", "ingest_job": raw["ingest_job"]})

    assert ours.path.path(Tile(1, 0, 1)) == theirs.process(1, 0, 1, 0)


def test_a_file_that_boss_cannot_read_is_an_items_failure(sections: Path, tmp_path: Path) -> None:
    boss = load(
        job(STACK + "StackPathProcessor", STACK + "StackTileProcessor", STACK_PARAMS, sections), tmp_path
    )
    (sections / "sec_001.png").write_bytes(b"nonsense")
    (sections / "sec_002.png").unlink()

    for z in range(2):
        with pytest.raises(SourceUnreadable, match="ZindexStackTileProcessor could not make this tile"):
            stored(boss, Tile(0, 0, z))


def test_a_tile_that_boss_has_no_path_for_is_an_items_failure(sections: Path, tmp_path: Path) -> None:
    boss = load(
        job(STACK + "StackPathProcessor", STACK + "StackTileProcessor", STACK_PARAMS, sections), tmp_path
    )
    with pytest.raises(SourceUnreadable, match="has no path for this tile"):
        boss.path.path(Tile(0, 0, 99))
    with pytest.raises(SourceUnreadable, match="type 'tiles' only"):
        boss.path.path(FileItem("a"))


def test_boss_own_test_processors_run(tmp_path: Path) -> None:
    tile = "ingestclient.plugins.tile.TestRandomTileProcessor"
    boss = load(job("ingestclient.plugins.path.TestPassThroughPathProcessor", tile, {}, tmp_path), tmp_path)
    assert array(stored(boss, Tile(0, 0, 0))).shape == (24, 32)


def test_a_setup_that_refuses_is_a_config_error(sections: Path, tmp_path: Path) -> None:
    params = STACK_PARAMS | {"filesystem": "tape"}
    with pytest.raises(ConfigError, match="setup refused its parameters"):
        load(job(STACK + "StackPathProcessor", STACK + "StackTileProcessor", params, sections), tmp_path)


def test_nothing_is_imported_unless_it_is_allowed(sections: Path, tmp_path: Path) -> None:
    config = job(STACK + "StackPathProcessor", STACK + "StackTileProcessor", STACK_PARAMS, sections)
    with pytest.raises(PluginError, match="does not allow its module") as caught:
        load(config, tmp_path, Settings())
    assert "INGEST_PLUGIN_PATHS=ingestclient.plugins.stack" in str(caught.value)


def test_boss_classes_are_known_by_their_shape() -> None:
    assert is_boss_class(load_class("path", STACK + "StackPathProcessor", ALLOWED))
    assert not is_boss_class(load_class("path", "z_stack", ALLOWED))
    assert not is_boss_class(print)


def boss_config(extent: dict[str, list[int]], path_params: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": {"name": "boss-v0.1-schema", "validator": "BossValidatorV01"},
        "client": {
            "path_processor": {"class": STACK + "StackPathProcessor", "params": path_params},
            "tile_processor": {
                "class": STACK + "StackTileProcessor",
                "params": {"filesystem": "local", "extension": "png"},
            },
        },
        "database": {"collection": "c", "experiment": "e", "channel": "ch"},
        "ingest_job": {
            "resolution": 2,
            "extent": extent,
            "tile_size": {"x": 32, "y": 24, "z": 1, "t": 1},
        },
    }


class Named:
    """A plugin whose data lies in no folder; its tile is the path that it is given."""

    def setup(self, parameters: dict[str, Any]) -> None:
        pass

    def process(self, *indices: Any) -> Any:
        return io.BytesIO(indices[0].encode()) if isinstance(indices[0], str) else "s3://bucket//a.png"


def test_a_path_is_handed_on_as_it_was_given(tmp_path: Path) -> None:
    context = JobContext("j", "boss", "2026-01-31", None, tmp_path, {"ingest_job": {}})
    path, tile = BossPathProcessor(Named, {}, context), BossTileProcessor(Named, {}, context)
    item = Tile(0, 0, 0)

    with path.open(path.path(item)) as opened:
        (upload,) = tile.uploads(Source(item, opened))
    assert upload.body == b"s3://bucket//a.png"


class Given:
    """A path processor that returns what it was given as a parameter, and a tile processor that stores what it gets."""

    def setup(self, parameters: dict[str, Any]) -> None:
        self._given = parameters.get("given")

    def process(self, *args: Any) -> Any:
        return self._given if len(args) == 4 else repr(args[0]).encode()


@pytest.mark.parametrize("given", [None, "", "a//b", Path("/a/b.png"), ("/a/b.h5", 7)], ids=repr)
def test_what_a_path_processor_returns_is_handed_on_unchanged(given: Any, tmp_path: Path) -> None:
    context = JobContext("j", "boss", "2026-01-31", None, tmp_path, {"ingest_job": {}})
    path, tile = BossPathProcessor(Given, {"given": given}, context), BossTileProcessor(Given, {}, context)
    item = Tile(0, 0, 0)

    with path.open(path.path(item)) as opened:
        (upload,) = tile.uploads(Source(item, opened))
    assert upload.body == repr(given).encode()


class Returning:
    """A Boss tile processor that returns what it was given as a parameter."""

    def setup(self, parameters: dict[str, Any]) -> None:
        self._returned = parameters["returned"]

    def process(self, *_: Any) -> Any:
        return self._returned


class ReadAndSeek:
    """As Boss itself, which calls nothing else."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self.read, self.seek = self._file.read, self._file.seek


def returned(value: Any, folder: Path) -> bytes | Path:
    context = JobContext("j", "boss", "2026-01-31", None, folder, {"ingest_job": {}})
    tile = BossTileProcessor(Returning, {"returned": value}, context)
    (upload,) = tile.uploads(Source(Tile(0, 0, 0), folder))
    return upload.body


@pytest.mark.parametrize("value", [b"tile", bytearray(b"tile"), io.BytesIO(b"tile"), ReadAndSeek(b"tile")])
def test_what_boss_could_read_is_stored_whole(value: Any, tmp_path: Path) -> None:
    if hasattr(value, "read"):
        value.read(2)

    assert returned(value, tmp_path) == b"tile"


def closed() -> io.BytesIO:
    handle = io.BytesIO(b"tile")
    handle.close()
    return handle


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "it returned NoneType; expected a handle on bytes"),
        (np.zeros((2, 2)), "it returned ndarray"),
        (iter([b"tile"]), "it returned list_iterator"),
        (io.StringIO("tile"), "its handle is on str"),
        (closed(), "I/O operation on closed file"),
        ("/not there", "No such file"),
        (io.BytesIO(), "it returned a handle on no bytes"),
    ],
    ids=["nothing", "numpy", "generator", "text", "closed", "no file", "empty"],
)
def test_what_is_no_handle_fails_the_tile_with_the_plugins_name(
    value: Any, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceUnreadable, match=f"Returning could not make this tile: .*{reason}"):
        returned(value, tmp_path)
