"""What the processors tell each other of a source: facts, and its neighbours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.workers import batch
from ingest.workers.batch import do_batch
from tests.workers.making import bench

PLUGINS = '''
from typing import ClassVar
from ingest.errors import ConfigError, SourceMissing
from ingest.plugins.files import Folder
from ingest.processors import TileProcessor, Upload

class Facts(Folder):
    """A folder that found something out."""
    def facts(self, path):
        return {"etag": path[-1], "start": "unknown"}

class Start(TileProcessor):
    """Knows better."""
    def uploads(self, source):
        assert source.facts["start"] == "unknown"
        assert source.previous is None and source.following is None
        yield Upload(source.path, "a/b", metadata={"start": "known"})

class Away(Folder):
    """A folder that goes away while a neighbour is wanted, and comes back after a while."""
    gone = 0

    def open(self, path):
        if path.endswith("/b") and self.gone == 0:
            self.gone = 3
            raise SourceMissing("gone")
        return super().open(path)

    def check(self):
        if self.gone > 1:
            self.gone -= 1
            raise ConfigError("the drive is away")

class Around(TileProcessor):
    """Three files in one."""
    uses_neighbours: ClassVar[bool] = True

    def uploads(self, source):
        parts = [b"-", source.path.read_bytes(), b"-"]
        for place, neighbour in ((0, source.previous), (2, source.following)):
            if neighbour:
                with neighbour() as path:
                    parts[place] = path.read_bytes()
        yield Upload(b"".join(parts), "a/b")
'''


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path) -> Iterator[None]:
    """The module ``own_sources``, in a folder that is allowed."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "own_sources.py").write_text(PLUGINS)
    path = list(sys.path)
    yield
    sys.path[:] = path
    sys.modules.pop("own_sources", None)


def processor(tmp_path: Path, **names: str) -> dict[str, Any]:
    params = {"path": {"root_dir": str(tmp_path / "source"), "exclude": ["*.tmp"]}, "tile": {}}
    return {f"{kind}_processor": {"class": name, "params": params[kind]} for kind, name in names.items()}


def test_facts_go_into_the_manifest_and_a_tile_processors_own_win(tmp_path: Path) -> None:
    names = processor(tmp_path, path="own_sources.Facts", tile="own_sources.Start")
    with bench(tmp_path, **names) as made:
        made.put("a")
        made.put("b")
        result = do_batch(made.batch(), made.kit)

    assert result.failures == {}
    assert [dict(row.metadata) for row in result.rows] == [
        {"etag": "a", "start": "known"},
        {"etag": "b", "start": "known"},
    ]


def test_neighbours_are_those_of_the_folder_that_are_listed(tmp_path: Path) -> None:
    with bench(tmp_path, **processor(tmp_path, path="folder", tile="own_sources.Around")) as made:
        for name in ("a", "a.d/1", "b", "b.tmp", "c", ".c", "d/1", "d/2"):
            made.put(name, name[-1].encode())
        result = do_batch(made.batch(), made.kit)

        assert result.failures == {}
        assert made.objects() == {
            "a": b"-ab",
            "a.d/1": b"-1-",
            "b": b"abc",
            "c": b"bc-",
            "d/1": b"-12",
            "d/2": b"12-",
        }


def test_a_neighbour_of_a_source_that_is_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "SOURCE_WAIT_S", 0.01)
    with bench(tmp_path, **processor(tmp_path, path="own_sources.Away", tile="own_sources.Around")) as made:
        made.put("a", b"a")
        made.put("b", b"b")
        result = do_batch(made.batch(), made.kit)

    assert result.failures == {}
    assert made.objects()["a"] == b"-ab", "a result would depend on whether the source was away"
