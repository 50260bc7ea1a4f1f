"""What the processors tell each other of a source: facts, and its neighbours."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.workers import sources
from ingest.workers.batch import do_batch
from ingest.workers.hands import Hands, Held, ProcessorTime
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

class Beside(TileProcessor):
    """The names of the files beside one, and what the last of them holds, in a file made for it."""
    looks_beside: ClassVar[bool] = True

    def uploads(self, source):
        there = source.beside()
        with there[max(there)]() as path:
            text = " ".join(sorted(there)) + ": " + path.read_text()
        made = self.context.scratch_dir / source.path.name
        made.write_text(text)
        yield Upload(made, "text/plain", temporary=True)
        if "fails" in text:
            raise SourceMissing("it fails")
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
    monkeypatch.setattr(sources, "WAIT_S", 0.01)
    with bench(tmp_path, **processor(tmp_path, path="own_sources.Away", tile="own_sources.Around")) as made:
        made.put("a", b"a")
        made.put("b", b"b")
        result = do_batch(made.batch(), made.kit)

    assert result.failures == {}
    assert made.objects()["a"] == b"-ab", "a result would depend on whether the source was away"


def test_to_wait_for_a_source_is_not_its_items_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands()
    waiting: list[Held | None] = []
    opening: list[Held | None] = []
    with bench(tmp_path, **processor(tmp_path, path="own_sources.Away", tile="own_sources.Around")) as made:
        made.put("a", b"a")
        made.put("b", b"b")
        kit = replace(made.kit, processor_time=ProcessorTime(hands))
        opened = kit.processors.path.open

        def slow_open(path: str) -> AbstractContextManager[Path]:
            time.sleep(0.01)
            opening.append(hands.read(os.getpid()))
            return opened(path)

        monkeypatch.setattr(kit.processors.path, "open", slow_open)
        monkeypatch.setattr(kit.watch, "sleep", lambda seconds: waiting.append(hands.read(os.getpid())))
        assert do_batch(made.batch(), kit).failures == {}

    assert waiting == [None, None]
    own, before, after, *_ = opening
    assert own and before and after
    assert (own.index, before.index, after.index) == (0, 0, 0)
    assert before.spent_s > 0
    assert after.spent_s == 0, "what was done is lost with the source"


def test_the_files_beside_one_are_those_of_its_folder_that_are_listed(tmp_path: Path) -> None:
    with bench(tmp_path, **processor(tmp_path, path="folder", tile="own_sources.Beside")) as made:
        for name in ("a", "b", "b.tmp", ".c", "d/1", "d/e/2"):
            made.put(name, name.encode())
        result = do_batch(made.batch(), made.kit)

        assert result.failures == {}
        assert made.objects() == {"a": b"a b: b", "b": b"a b: b", "d/1": b"1: d/1", "d/e/2": b"2: d/e/2"}


def test_what_was_made_for_an_upload_is_deleted_whatever_became_of_it(tmp_path: Path) -> None:
    with bench(tmp_path, **processor(tmp_path, path="folder", tile="own_sources.Beside")) as made:
        made.put("a/1", b"good")
        made.put("b/2", b"fails")
        result = do_batch(made.batch(), made.kit)

        assert [failure.reason for failure in result.failures.values()] == ["it fails"]
        scratch = made.kit.processors.tile.context.scratch_dir
        assert [path for path in scratch.rglob("*") if path.is_file()] == []
