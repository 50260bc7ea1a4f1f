"""Backup copies: whole or not there, gone on with, never overwritten, and a full disk waits."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from ingest.backup import PART_SUFFIX, BackupFolder, Kept
from ingest.errors import ConfigError, KeyConflict, KeyInvalid, SourceChanged, SourceUnreadable, Stopped

BODY = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(BODY).hexdigest()
MTIME_NS = 1_700_000_000_123_456_789


class Served:
    """A source that counts what it serves, and may break off."""

    def __init__(self, body: bytes = BODY, breaks_after: int | None = None) -> None:
        self.body = body
        self.breaks_after = breaks_after
        self.offsets: list[int] = []
        self.served_bytes = 0

    def fetch(self, file: BinaryIO, offset: int) -> str | None:
        self.offsets.append(offset)
        end = len(self.body) if self.breaks_after is None else self.breaks_after
        self.served_bytes += file.write(self.body[offset:end])
        if self.breaks_after is not None:
            raise SourceUnreadable("the tag is out of reach")
        return hashlib.sha256(self.body).hexdigest()


def keep(folder: BackupFolder, served: Served, name: str = "wt-1/a.raw", sha256: str | None = SHA256) -> Kept:
    return folder.keep(
        name, size_bytes=len(served.body), mtime_ns=MTIME_NS, sha256=sha256, fetch=served.fetch
    )


@pytest.fixture
def folder(tmp_path: Path) -> BackupFolder:
    backup = BackupFolder(tmp_path / "backup")
    backup.check()
    return backup


def everything_in(folder: BackupFolder) -> dict[str, int]:
    found = (path for path in folder.root.rglob("*") if path.is_file())
    return {str(path.relative_to(folder.root)): path.stat().st_size for path in found}


def test_a_copy_is_whole_has_its_time_and_nothing_else_lies_beside_it(folder: BackupFolder) -> None:
    kept = keep(folder, Served())
    assert kept == Kept(folder.root / "wt-1/a.raw", SHA256, len(BODY), was_there=False)
    assert kept.path.read_bytes() == BODY
    assert kept.path.stat().st_mtime_ns == MTIME_NS
    assert everything_in(folder) == {"wt-1/a.raw": len(BODY)}


@pytest.mark.parametrize("knows_hash", [True, False])
def test_what_is_there_and_equal_is_done(folder: BackupFolder, knows_hash: bool) -> None:
    keep(folder, Served())
    again = Served()
    kept = keep(folder, again, sha256=SHA256 if knows_hash else None)
    assert kept.was_there
    assert again.served_bytes == (0 if knows_hash else len(BODY)), "without a hash it is compared"
    assert everything_in(folder) == {"wt-1/a.raw": len(BODY)}


def test_a_broken_transfer_goes_on_where_it_stopped(folder: BackupFolder) -> None:
    served = Served(breaks_after=100_000)
    with pytest.raises(SourceUnreadable, match="out of reach"):
        keep(folder, served)
    assert everything_in(folder) == {f"wt-1/.a.raw{PART_SUFFIX}": 100_000}
    served.breaks_after = None
    keep(folder, served)
    assert served.offsets == [0, 100_000]
    assert served.served_bytes == len(BODY)


@pytest.mark.parametrize("left", [b"other bytes", BODY[:-1] + b"?", BODY + b"more"])
def test_a_part_of_something_else_is_thrown_away(folder: BackupFolder, left: bytes) -> None:
    path = folder.path_of("wt-1/a.raw")
    path.parent.mkdir()
    (path.parent / f".a.raw{PART_SUFFIX}").write_bytes(left)
    served = Served()
    assert keep(folder, served).path.read_bytes() == BODY
    assert served.offsets[-1] == 0


def test_what_is_not_what_the_source_says_is_fetched_twice_and_refused(folder: BackupFolder) -> None:
    served = Served()
    with pytest.raises(SourceChanged, match="twice"):
        keep(folder, served, sha256="0" * 64)
    assert served.offsets == [0, 0]
    assert everything_in(folder) == {f"wt-1/.a.raw{PART_SUFFIX}": 0}


def test_a_source_that_shrank_is_refused(folder: BackupFolder) -> None:
    with pytest.raises(SourceChanged, match="262144 bytes"):
        folder.keep("a", size_bytes=len(BODY) + 1, mtime_ns=None, sha256=None, fetch=Served().fetch)


@pytest.mark.parametrize("there", ["other content", "other size", "a folder", "a link", "a pipe"])
@pytest.mark.parametrize("knows_hash", [True, False])
def test_what_is_there_and_differs_is_never_overwritten(
    folder: BackupFolder, there: str, knows_hash: bool
) -> None:
    path = folder.path_of("a.raw")
    outside = folder.root.parent / "outside"
    outside.write_bytes(BODY)
    match there:
        case "other content":
            path.write_bytes(b"\0" * len(BODY))
        case "other size":
            path.write_bytes(b"short")
        case "a folder":
            path.mkdir()
        case "a link":
            path.symlink_to(outside)
        case _:
            os.mkfifo(path)
    before = path.lstat()
    with pytest.raises(KeyConflict, match="another file"):
        keep(folder, Served(), "a.raw", SHA256 if knows_hash else None)
    assert path.lstat() == before
    assert outside.read_bytes() == BODY


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".", "a\0b", ".a" + PART_SUFFIX]
)
def test_names_that_are_no_path_below_it(folder: BackupFolder, name: str) -> None:
    with pytest.raises(KeyInvalid):
        folder.path_of(name)


@pytest.mark.parametrize("name", ["a b/'c\"\n$(d)`", "-rf", "\udcff\udcfe.raw", "n" * 255, "…" * 80 + ".raw"])
def test_odd_names(folder: BackupFolder, name: str) -> None:
    assert keep(folder, Served(), name).path.read_bytes() == BODY
    assert [path.name for path in folder.root.iterdir()] == [name.partition("/")[0]]


def test_no_link_leads_out_of_it(folder: BackupFolder) -> None:
    (folder.root / "out").symlink_to(folder.root.parent)
    with pytest.raises(KeyInvalid, match="symbolic link"):
        keep(folder, Served(), "out/a.raw")
    assert not (folder.root.parent / "a.raw").exists()


def test_an_empty_file(folder: BackupFolder) -> None:
    served = Served(b"")
    kept = keep(folder, served, sha256=hashlib.sha256(b"").hexdigest())
    assert (kept.path.read_bytes(), served.offsets) == (b"", [])


def test_two_at_once_fetch_it_once(folder: BackupFolder) -> None:
    served, begun, go_on = Served(), threading.Event(), threading.Event()
    kept: list[Kept] = []

    def slowly(file: BinaryIO, offset: int) -> str | None:
        begun.set()
        assert go_on.wait(10)
        return served.fetch(file, offset)

    def run() -> None:
        kept.append(
            folder.keep("a", size_bytes=len(BODY), mtime_ns=None, sha256=lambda: SHA256, fetch=slowly)
        )

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert sorted(one.was_there for one in kept) == [False, True]
    assert served.offsets == [0]


def test_waiting_for_another_can_be_stopped(folder: BackupFolder) -> None:
    def stop() -> None:
        raise Stopped("asked to stop")

    def meanwhile(file: BinaryIO, offset: int) -> str | None:
        with pytest.raises(Stopped):
            keep(BackupFolder(folder.root, stop), Served())
        return Served().fetch(file, offset)

    folder.keep("wt-1/a.raw", size_bytes=len(BODY), mtime_ns=None, sha256=SHA256, fetch=meanwhile)


def _begin_and_hang(root: Path, begun: multiprocessing.synchronize.Event) -> None:
    def fetch(file: BinaryIO, offset: int) -> None:
        file.write(BODY[:1000])
        begun.set()
        threading.Event().wait()

    BackupFolder(root).keep("a", size_bytes=len(BODY), mtime_ns=None, sha256=SHA256, fetch=fetch)


def test_a_copy_that_has_its_name_is_never_written_to(folder: BackupFolder, tmp_path: Path) -> None:
    kept, moved, other = keep(folder, Served()), tmp_path / "moved", b"other"
    kept.path.with_name(f".{kept.path.name}{PART_SUFFIX}").hardlink_to(
        kept.path
    )  # killed right after it was named
    kept.path.rename(moved)

    new = keep(folder, Served(other), sha256=hashlib.sha256(other).hexdigest())

    assert moved.read_bytes() == BODY
    assert new.path.read_bytes() == other
    assert list(new.path.parent.iterdir()) == [new.path]


def test_a_killed_process_leaves_what_the_next_goes_on_from(folder: BackupFolder) -> None:
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    process = context.Process(target=_begin_and_hang, args=(folder.root, begun))
    process.start()
    assert begun.wait(30)
    process.kill()
    process.join()
    served = Served()
    assert keep(folder, served, "a").path.read_bytes() == BODY
    assert served.offsets == [1000]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not there"):
        BackupFolder(tmp_path / "media" / "backup").check()
    assert not (tmp_path / "media").exists()


def test_a_folder_that_vanishes_is_waited_for(folder: BackupFolder) -> None:
    away = folder.root.rename(folder.root.parent / "away")
    with pytest.raises(SourceUnreadable, match="cannot be written"):
        keep(folder, Served())
    with pytest.raises(ConfigError, match="is its drive mounted"):
        folder.check()
    folder.root.mkdir()  # the folder that a drive was mounted on
    with pytest.raises(ConfigError, match="another one now"):
        folder.check()
    folder.root.rmdir()
    away.rename(folder.root)
    folder.check()
    keep(folder, Served())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(point)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield point
    subprocess.run(["umount", "-l", point], check=True)


def test_a_full_disk_waits_and_goes_on_where_it_stopped(small_disk: Path) -> None:
    backup = BackupFolder(small_disk / "backup")
    backup.check()
    other = small_disk / "other"
    served = Served(b"\x01" * (3 << 20))
    sha256 = hashlib.sha256(served.body).hexdigest()

    def fills_up(file: BinaryIO, offset: int) -> str | None:
        file.write(served.body[: 1 << 20])
        with other.open("wb") as filling, pytest.raises(OSError, match="No space"):
            filling.write(b"\0" * (4 << 20))
        file.write(served.body[1 << 20 :])
        raise AssertionError("there was no space")

    size_bytes = len(served.body)
    with pytest.raises(SourceUnreadable, match="no space left in the backup folder"):
        backup.keep("a", size_bytes=size_bytes, mtime_ns=None, sha256=sha256, fetch=fills_up)
    with pytest.raises(ConfigError, match="no space left"):
        backup.check()
    with pytest.raises(SourceUnreadable, match="no space left"):
        keep(backup, served, "a", sha256)
    assert served.offsets == [], "what cannot fit in is not begun"
    other.unlink()
    backup.check()
    keep(backup, served, "a", sha256)
    assert len(served.offsets) == 1
    assert served.offsets[0] >= 1 << 20
    assert served.served_bytes <= 2 << 20
