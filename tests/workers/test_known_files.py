"""Files that are not read again: only where nothing says that they are others now, and the store has what they were."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest.stores.source import fingerprint, read_steady
from ingest.workers import known_files, uploader
from ingest.workers.batch import do_batch
from ingest.workers.known_files import FILE_NAME, FileState, Known, KnownFiles
from ingest.workers.result import BatchResult
from tests.workers.making import LARGE_BYTES, bench, local_store
from tests.workers.test_unchanged import JOB_BEGAN_S, NEW_S, OLD_S, Listing

AT_REST_NS = 1_000_000
SHA256 = hashlib.sha256(b"content").hexdigest()


@pytest.fixture(autouse=True)
def _soon_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_files, "AT_REST_NS", AT_REST_NS)


@pytest.fixture
def known(tmp_path: Path) -> Iterator[KnownFiles]:
    known = KnownFiles(tmp_path / "state")
    yield known
    known.close()


def at_rest(path: Path) -> FileState:
    """The state of a file that has not been written to for long enough, on a disk with fine times."""
    while not (state := FileState.of(str(path))).is_telling:
        time.sleep(AT_REST_NS / 1e9)
        if not state.changed_ns % known_files.COARSE_NS:  # one time in ten million
            os.utime(path)
    return state


def run(
    folder: Path, known: KnownFiles, *, etag: str | None = None, modified_s: float = OLD_S
) -> BatchResult:
    """A batch over ``folder/source``, beside a store that has what ``folder/stored`` has."""
    with bench(
        folder,
        Listing(local_store(folder / "stored"), modified_s, etag),
        older_than_s=JOB_BEGAN_S,
        known_files=known,
    ) as b:
        return do_batch(b.batch(), b.kit)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file at rest, that is stored already."""
    for name in ("source", "stored"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.bin").write_bytes(b"content")
    path = tmp_path / "source" / "a.bin"
    at_rest(path)
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read."""
    paths: list[Path] = []
    whole, large = read_steady, fingerprint

    def note(path: Path, size_bytes: int) -> bytes:
        paths.append(path)
        return whole(path, size_bytes)

    def note_large(path, *rest):  # type: ignore[no-untyped-def]
        paths.append(path)
        return large(path, *rest)

    monkeypatch.setattr(uploader, "read_steady", note)
    monkeypatch.setattr(uploader, "fingerprint", note_large)
    return paths


def test_a_file_that_was_read_once_is_not_read_again(
    tmp_path: Path, source: Path, known: KnownFiles, read: list[Path]
) -> None:
    first = run(tmp_path, known)
    assert read == [source]
    again = run(tmp_path, known)
    assert read == [source]
    assert (again.counters["skipped"], again.failures) == (1, {})
    assert [row.sha256 for row in again.rows] == [row.sha256 for row in first.rows] == [SHA256]


def test_so_is_a_large_one_and_one_that_was_stored_by_this_machine(
    tmp_path: Path, known: KnownFiles, read: list[Path]
) -> None:
    (tmp_path / "source").mkdir()
    path, body = tmp_path / "source" / "large.bin", b"x" * (LARGE_BYTES + 1)
    path.write_bytes(body)
    at_rest(path)
    stored = run(tmp_path, known, modified_s=NEW_S)
    assert stored.counters["done"] == 1
    # a folder gives no ETag, as S3 does: what it would have said
    known.note(FileState.of(str(path)), Known(stored.rows[0].sha256, hashlib.md5(body).hexdigest(), {}))
    known.save()
    read.clear()
    assert run(tmp_path, known).counters["skipped"] == 1
    assert read == []


def test_it_is_known_to_other_processes(
    tmp_path: Path, source: Path, known: KnownFiles, read: list[Path]
) -> None:
    run(tmp_path, known)
    with closing(KnownFiles(tmp_path / "state")) as another:
        assert another.find(FileState.of(str(source))) == Known(
            SHA256, hashlib.md5(b"content").hexdigest(), {}
        )


def test_other_bytes_of_equal_size_and_time_of_modification_are_read(
    tmp_path: Path, source: Path, known: KnownFiles, read: list[Path]
) -> None:
    run(tmp_path, known)
    before = source.stat()
    source.write_bytes(b"another")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    at_rest(source)
    result = run(tmp_path, known)
    assert read[1:]
    assert [failure.error for failure in result.failures.values()] == ["KeyConflict"]


def test_another_file_moved_to_its_place_is_read(
    tmp_path: Path, source: Path, known: KnownFiles, read: list[Path]
) -> None:
    run(tmp_path, known)
    other = tmp_path / "other.bin"
    other.write_bytes(b"another")
    os.utime(other, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    other.replace(source)
    at_rest(source)
    assert [failure.error for failure in run(tmp_path, known).failures.values()] == ["KeyConflict"]


@pytest.mark.parametrize(
    ("etag", "modified_s"),
    [("0" * 32, OLD_S), (None, NEW_S)],
    ids=["the store has another object", "the object may be this job's own"],
)
def test_what_the_listing_does_not_prove_is_read(
    tmp_path: Path, source: Path, known: KnownFiles, read: list[Path], etag: str | None, modified_s: float
) -> None:
    run(tmp_path, known)
    run(tmp_path, known, etag=etag, modified_s=modified_s)
    assert read[1:]


def test_a_file_that_is_written_to_just_now_is_not_remembered(
    tmp_path: Path, source: Path, known: KnownFiles, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_files, "AT_REST_NS", 3_600_000_000_000)
    run(tmp_path, known)
    monkeypatch.setattr(known_files, "AT_REST_NS", AT_REST_NS)
    run(tmp_path, known)
    assert read == [source, source]


@pytest.mark.parametrize("changed_ns", [1_700_000_000_000_000_000, 1_700_000_000_120_000_000])
def test_times_as_fat_keeps_them_tell_nothing(changed_ns: int) -> None:
    assert not FileState("", b"", 7, changed_ns).is_telling
    assert FileState("", b"", 7, changed_ns + 1).is_telling


def test_a_file_that_changed_after_it_was_read_is_not_remembered(source: Path, known: KnownFiles) -> None:
    state = FileState.of(str(source))
    source.write_bytes(b"another")
    known.note(state, Known(SHA256, "e", {}))
    source.unlink()
    known.note(state, Known(SHA256, "e", {}))
    known.save()
    assert known.find(state) is None


@pytest.mark.parametrize("digests", [{}, {"c4": "c4abc"}])
def test_a_row_that_lost_some_of_its_bytes_is_none(
    tmp_path: Path, source: Path, known: KnownFiles, digests: dict[str, str]
) -> None:
    state = FileState.of(str(source))
    known.note(state, Known(SHA256, "e", digests))
    known.save()
    assert known.find(state) == Known(SHA256, "e", digests)
    known.save()
    with closing(sqlite3.connect(tmp_path / "state" / FILE_NAME)) as database, database:
        database.execute("UPDATE files SET sha256 = zeroblob(32)")
    assert known.find(state) is None


def test_two_processes_write_in_turns(tmp_path: Path, source: Path, known: KnownFiles) -> None:
    state = FileState.of(str(source))
    with closing(KnownFiles(tmp_path / "state")) as another:
        for one, etag in ((known, "a"), (another, "b"), (known, "c")):
            one.find(state)
            one.note(state, Known(SHA256, etag, {}))
            one.save()
        assert [found and found.etag for found in (known.find(state), another.find(state))] == ["c", "c"]


def test_a_record_that_is_garbled_is_begun_anew(
    tmp_path: Path, source: Path, read: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE_NAME).write_bytes(b"no database" * 1000)
    with closing(KnownFiles(tmp_path / "state")) as known:
        assert "begun anew" in caplog.text
        run(tmp_path, known)
        run(tmp_path, known)
    assert read == [source]


def test_where_it_cannot_be_kept_files_are_read(
    tmp_path: Path, source: Path, read: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state" / FILE_NAME).mkdir(parents=True)
    known = KnownFiles(tmp_path / "state")
    assert "files are read" in caplog.text
    assert run(tmp_path, known).counters["skipped"] == 1
    assert run(tmp_path, known).counters["skipped"] == 1
    assert read == [source, source]


def test_it_does_not_grow_without_end(
    tmp_path: Path, source: Path, known: KnownFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = FileState.of(str(source))
    known.note(state, Known(SHA256, "e", {}))
    known.save()
    monkeypatch.setattr(known_files, "MOST_BYTES", 1000)
    with closing(KnownFiles(tmp_path / "state")) as another:
        assert another.find(state) is None
        another.note(state, Known(SHA256, "e", {}))
        another.save()
        assert another.find(state) is not None
