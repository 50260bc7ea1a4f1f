from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest import twin_keys
from ingest.errors import IngestError
from ingest.twin_keys import refuse_twin_keys

NAMES = ("item", "key", "sha256")


def manifest(folder: Path, *rows: tuple[str, str, str]) -> Path:
    """A local manifest of items, keys and SHA-256."""
    columns = {name: pa.array([row[n] for row in rows], pa.string()) for n, name in enumerate(NAMES)}
    pq.write_table(pa.table(columns), folder / "manifest.parquet")
    return folder / "manifest.parquet"


def test_one_key_of_two_contents_is_refused_however_far_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twin_keys, "ROWS_AT_ONCE", 2)
    others = [(f"{n}", f"key {n}", f"{n}") for n in range(9)]

    with pytest.raises(IngestError, match=r"'a' and 'b' were both stored under 'same'"):
        refuse_twin_keys(manifest(tmp_path, ("a", "same", "1"), *others, ("b", "same", "2")))


def test_equal_content_under_one_key_is_whole(tmp_path: Path) -> None:
    refuse_twin_keys(manifest(tmp_path, ("a", "same", "1"), ("b", "same", "1"), ("c", "other", "2")))


def test_a_manifest_may_be_empty(tmp_path: Path) -> None:
    refuse_twin_keys(manifest(tmp_path))


def test_keys_whose_hashes_are_alike_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin_keys, "hash", lambda key: 7, raising=False)

    refuse_twin_keys(manifest(tmp_path, ("a", "one", "1"), ("b", "other", "2")))


@pytest.fixture
def folding(tmp_path: Path) -> Iterator[Path]:
    """A folder where ``A`` and ``a`` are one folder, as on a card's file system: by a mount, none folds here."""
    for name in ("Ä", "ä"):
        (tmp_path / name).mkdir()
    command = ["mount", "--bind", str(tmp_path / "Ä"), str(tmp_path / "ä")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a folder here")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path / "ä")], check=True)


def test_names_that_a_folder_does_not_tell_apart_are_refused(folding: Path) -> None:
    (folding / "Ä" / "x").write_bytes(b"1")
    rows = manifest(folding, ("one", "Ä/x", "1"), ("two", "ä/x", "2"))

    with pytest.raises(
        IngestError, match=r"'one' and 'two' were both stored under 'Ä/x' and 'ä/x', one file"
    ):
        refuse_twin_keys(rows, folding)
    refuse_twin_keys(rows)


def test_names_that_a_folder_tells_apart_are_whole(tmp_path: Path) -> None:
    for name in ("a", "A", "a.", "\u00e9", "e\u0301"):
        (tmp_path / name).write_text(name)
    rows = [(name, name, name) for name in ("a", "A", "a.", "\u00e9", "e\u0301", "gone", "GONE")]

    refuse_twin_keys(manifest(tmp_path, *rows), tmp_path)
