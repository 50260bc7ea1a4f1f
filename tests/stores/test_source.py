from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

import pytest

from ingest.errors import SourceChanged, SourceMissing, SourceUnreadable
from ingest.stores.base import Cut, never
from ingest.stores.source import HASHED_AT_ONCE_BYTES, fingerprint, opened, read_steady, size_of


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "x").write_bytes(content)

    assert read_steady(tmp_path / "x", len(content)) == content
    (tmp_path / "x").write_bytes(b"")
    assert read_steady(tmp_path / "x", 0) == b""


@pytest.mark.parametrize("size_bytes", [0, 6, 8, 1000])
def test_another_size_than_was_expected_is_a_change(tmp_path: Path, size_bytes: int) -> None:
    (tmp_path / "x").write_bytes(b"content")

    with pytest.raises(SourceChanged, match=f"had {size_bytes} bytes before and has 7 now"):
        read_steady(tmp_path / "x", size_bytes)


@pytest.mark.parametrize("change", ["rewritten", "appended", "truncated"])
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"content")
    os.utime(path, ns=(1, 1))
    read = os.read

    def read_and_change(descriptor: int, count: int) -> bytes:
        data = read(descriptor, count)
        if data:
            with path.open("ab" if change == "appended" else "rb+") as file:
                file.truncate(3) if change == "truncated" else file.write(b"CONTENT")
        return data

    monkeypatch.setattr("ingest.stores.source.os.read", read_and_change)

    with pytest.raises(SourceChanged):
        read_steady(path, 7)


@pytest.mark.parametrize("part_bytes", [1, 5, HASHED_AT_ONCE_BYTES - 1, 2 * HASHED_AT_ONCE_BYTES + 7])
@pytest.mark.parametrize("more_bytes", [-1, 0, 1])
@pytest.mark.parametrize("digest", ["md5", "sha256"])
def test_a_file_is_hashed_whole_and_by_parts_in_one_pass(
    tmp_path: Path, part_bytes: int, more_bytes: int, digest: Literal["md5", "sha256"]
) -> None:
    content = os.urandom(3 * part_bytes + more_bytes)
    (tmp_path / "x").write_bytes(content)

    found = fingerprint(tmp_path / "x", Cut(part_bytes, digest), never)

    parts = [content[start : start + part_bytes] for start in range(0, len(content), part_bytes)]
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.size_bytes == len(content)
    assert found.digests == tuple(hashlib.new(digest, part).digest() for part in parts)
    assert fingerprint(tmp_path / "x", None, never).digests is None


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        read_steady(tmp_path / "x", 1)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(SourceUnreadable, match="is no regular file"):
            read_steady(path, 1)
        with pytest.raises(SourceUnreadable, match="is no regular file"):
            opened(path).__enter__()
    (tmp_path / "file").write_bytes(b"a file has taken its folder's place")
    for read in (lambda path: read_steady(path, 1), size_of, lambda path: opened(path).__enter__()):
        with pytest.raises(SourceMissing):
            read(tmp_path / "file" / "x")
