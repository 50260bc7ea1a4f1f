from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest.errors import SourceUnreadable
from ingest.items import FileItem
from ingest.plugins.files import Folder, FolderParams
from ingest.plugins.local import beside
from tests.plugins.making import context


def folder(tmp_path: Path, **params: Any) -> Folder:
    return Folder(FolderParams(root_dir=tmp_path / "source", **params), context(tmp_path))


def names(found: tuple[FileItem | None, FileItem | None]) -> list[str | None]:
    return [item.path if item else None for item in found]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of files and folders, with names whose order by bytes is not that by letters."""
    source = tmp_path / "source"
    for name in ("Z", "a", "a-sub/x", "caf\udce9", "\u6d77", "b.log", ".hidden"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return source


@pytest.mark.parametrize("params", [{}, {"hidden": True}, {"exclude": ["*.log"]}, {"include": ["[a-z]*"]}])
def test_of_a_folder_are_those_beside_it_in_the_listing(
    tmp_path: Path, source: Path, params: dict[str, Any]
) -> None:
    processor = folder(tmp_path, **params)
    top = [item.path for item in processor.paths() if "/" not in item.path]
    left_out = dict(processor.left_out)
    assert len(top) >= 3

    for place, path in enumerate(top):
        found = names(processor.neighbours(FileItem(path)))
        assert found == [top[place - 1] if place else None, top[place + 1] if place + 1 < len(top) else None]
    assert names(processor.neighbours(FileItem("a-sub/x"))) == [None, None]
    assert dict(processor.left_out) == left_out, "they are counted once"


def test_one_that_has_vanished_still_has_its_place() -> None:
    assert names(beside("b", ["a", "c"])) == ["a", "c"]
    assert names(beside("b", [])) == [None, None]


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, source: Path) -> None:
    with pytest.raises(SourceUnreadable, match="gone"):
        folder(tmp_path).neighbours(FileItem("gone/x"))
