from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from ingest import plugin_loader
from ingest.config import Settings, parse_config
from ingest.errors import PluginError
from ingest.plugin_loader import KIND_WORDS, Kind, Processors, installed, load_class, load_processors
from ingest.plugins.files import FileAsIs, Folder, FolderParams
from ingest.processors import JobContext, Params

PLUGIN = """
from ingest.processors import Finisher, PathProcessor, TileProcessor

class Paths(PathProcessor):
    def path(self, item):
        return "x"

class Tiles(TileProcessor):
    def uploads(self, source):
        yield from ()

class Summary(Finisher):
    def additions(self, results):
        yield from ()

class Boss:
    def setup(self, parameters): ...
    def process(self, x, y, z, t): ...

function = print
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[Path]:
    """A folder with the module ``own_plugin`` and the package ``own_package``."""
    folder = tmp_path / "plugins"
    (folder / "own_package").mkdir(parents=True)
    (folder / "own_plugin.py").write_text(PLUGIN)
    (folder / "own_package" / "__init__.py").write_text("")
    (folder / "own_package" / "inner.py").write_text(PLUGIN)
    (folder / "own_broken.py").write_text("import own_missing_library")
    (folder / "own_faulty.py").write_text("1 / 0")
    path, modules = list(sys.path), set(sys.modules)
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("own_"):
            del sys.modules[name]


def refused(kind: Kind, name: str, plugin_paths: str = "") -> PluginError:
    with pytest.raises(PluginError) as caught:
        load_class(kind, name, Settings(plugin_paths=plugin_paths))
    assert caught.value.place == ("finishers.class" if kind == "finisher" else f"{kind}_processor.class")
    return caught.value


class TestInstalled:
    def test_the_built_in_ones_are(self) -> None:
        assert {"folder", "z_stack", "catmaid_files"} <= set(installed("path"))
        assert {"file", "image"} <= set(installed("tile"))
        assert load_class("path", "folder", Settings()) is Folder
        assert load_class("tile", "file", Settings()) is FileAsIs

    @pytest.mark.parametrize("kind", ["path", "tile", "finisher"])
    def test_each_loads_and_describes_all_its_parameters(self, kind: Kind) -> None:
        for name in installed(kind):
            cls: Any = load_class(kind, name, Settings())
            assert cls.__doc__
            assert all(field.description for field in cls.Params.model_fields.values()), name

    @pytest.mark.parametrize(
        ("module", "hint"),
        [
            ("own_broken", "install the package that has 'own_missing_library' on every node"),
            ("own_faulty", None),
        ],
    )
    def test_one_that_cannot_be_imported_says_why(
        self, plugins: Path, monkeypatch: pytest.MonkeyPatch, module: str, hint: str | None
    ) -> None:
        monkeypatch.syspath_prepend(str(plugins))
        broken = EntryPoint("seismic", f"{module}:Paths", "ingest.path_processors")
        monkeypatch.setattr(plugin_loader, "_entry_points", lambda group: EntryPoints([broken]))

        error = refused("path", "seismic")

        assert "'seismic' cannot be imported" in error.what
        assert error.hint == hint

    def test_an_unknown_one_is_refused_with_a_hint(self) -> None:
        assert refused("path", "foldr").hint == "did you mean 'folder'?"
        assert refused("path", "image").hint == "it is a tile processor"
        assert refused("tile", "folder").hint == "it is a path processor"


class TestByPath:
    def test_nothing_is_allowed_by_default(self, plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(plugins))
        error = refused("path", "own_plugin.Paths")
        assert "does not allow its module" in str(error)
        assert "own_plugin" not in sys.modules

    def test_a_module_that_no_allowed_folder_has_is_told_with_the_folders(self, plugins: Path) -> None:
        hint = refused("path", "own_plugn.Paths", str(plugins)).hint
        assert (
            hint == f"INGEST_PLUGIN_PATHS names {plugins}, which has no own_plugn.py and no folder own_plugn"
        )

    def test_a_module_that_is_allowed_and_not_there_is_not_to_be_had_from_an_index(self) -> None:
        hint = str(refused("path", "own_nowhere.Paths", "own_nowhere").hint)
        assert hint == "install its package, or put its folder (with a `/`) into INGEST_PLUGIN_PATHS"

    @pytest.mark.parametrize("name", ["own_plugin.Paths", "own_package.inner.Paths"])
    def test_a_folder_allows_what_is_in_it(self, plugins: Path, name: str) -> None:
        assert load_class("path", name, Settings(plugin_paths=f"other:{plugins}")).__name__ == "Paths"

    @pytest.mark.parametrize("allowed", ["own_package", "own_package.inner"])
    def test_a_module_allows_what_lies_below_it(
        self, plugins: Path, monkeypatch: pytest.MonkeyPatch, allowed: str
    ) -> None:
        monkeypatch.syspath_prepend(str(plugins))
        settings = Settings(plugin_paths=allowed)
        assert load_class("tile", "own_package.inner.Tiles", settings).__name__ == "Tiles"
        assert "own_plugin" in str(refused("path", "own_plugin.Paths", allowed))

    @pytest.mark.parametrize("allowed", ["own_pack", "own", "inner", "own_package.inner.Paths.x"])
    def test_a_part_of_a_name_allows_nothing(
        self, plugins: Path, monkeypatch: pytest.MonkeyPatch, allowed: str
    ) -> None:
        monkeypatch.syspath_prepend(str(plugins))
        refused("path", "own_package.inner.Paths", allowed)

    @pytest.mark.parametrize(
        "name", ["os.system", "subprocess.Popen", "json.Paths", "ingest.plugins.files.Folder"]
    )
    def test_a_folder_allows_nothing_outside_it(self, plugins: Path, name: str) -> None:
        assert "does not allow" in str(refused("path", name, str(plugins)))

    def test_a_module_of_that_name_elsewhere_is_not_taken_for_the_folders(
        self, plugins: Path, tmp_path: Path
    ) -> None:
        (plugins / "json.py").write_text(PLUGIN)
        assert "outside" in str(refused("path", "json.Paths", str(plugins)))

    @pytest.mark.parametrize("name", ["..x", ".x", "own_plugin.", "own_plugin..Paths", "../x.Paths"])
    def test_a_path_that_is_none_is_refused(self, plugins: Path, name: str) -> None:
        refused("path", name, str(plugins))

    def test_what_is_not_there_is_named(self, plugins: Path) -> None:
        assert refused("path", "own_plugin.Path", str(plugins)).hint == "did you mean 'Paths'?"
        assert "own_missing_library" in str(refused("path", "own_broken.Paths", str(plugins)))
        assert "division by zero" in str(refused("path", "own_faulty.Paths", str(plugins)))

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            ("path", "Tiles"),
            ("tile", "Paths"),
            ("path", "function"),
            ("finisher", "Tiles"),
            ("finisher", "Boss"),
        ],
    )
    def test_what_is_no_processor_is_refused(self, plugins: Path, kind: Kind, name: str) -> None:
        assert f"is no {KIND_WORDS[kind]}" in str(refused(kind, f"own_plugin.{name}", str(plugins)))

    def test_a_finisher_is_found(self, plugins: Path) -> None:
        allowed = Settings(plugin_paths=str(plugins))
        assert load_class("finisher", "own_plugin.Summary", allowed).__name__ == "Summary"
        assert refused("finisher", "folder").hint == "it is a path processor"


def test_a_processor_that_lists_nothing_serves_no_files(tmp_path: Path) -> None:
    params = {"root_dir": "/d", "extension": "png", "base_filename": "<>"}
    config = parse_config(
        {
            "name": "a",
            "ingest_job": {"type": "files"},
            "path_processor": {"class": "z_stack", "params": params},
            "destination": {"url": "s3://b"},
        }
    )
    with pytest.raises(PluginError, match="lists no files"):
        load_processors(config, JobContext("j", "a", "2026-01-31", None, tmp_path), Settings())


@pytest.mark.parametrize(
    ("listed", "named"), [(["a.txt"], "'a.txt'"), ([("a", 1)], "('a', 1)"), (None, "None")]
)
def test_what_is_listed_and_is_no_file_is_the_plugins_fault(tmp_path: Path, listed: Any, named: str) -> None:
    class Names(Folder):
        def paths(self, after: str | None = None) -> Any:
            return listed

    context = JobContext("j", "a", "2026-01-31", None, tmp_path)
    processors = Processors(Names(FolderParams(root_dir=Path("/d")), context), FileAsIs(Params(), context))
    with pytest.raises(PluginError, match="Names") as caught:
        list(processors.files())
    assert f"gives {named}; expected FileItem" in caught.value.what
