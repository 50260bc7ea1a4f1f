"""What only a folder can get wrong."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ingest.config import Destination
from ingest.errors import (
    ChecksumMismatch,
    KeyConflict,
    KeyInvalid,
    ObjectExists,
    ObjectMissing,
    StoreFull,
    StoreRefused,
)
from ingest.stores import folders
from ingest.stores.base import Store
from ingest.stores.local import LocalStore
from tests.needs import require
from tests.stores.helpers import MIB, keys, large_file, meta_of, probed, put

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The store's folder."""
    return tmp_path / "store"


@pytest.fixture
def local(root: Path) -> Store:
    """A store in a folder."""
    return probed(Destination(url=f"file://{root}"))


def test_objects_are_plain_files(local: Store, root: Path) -> None:
    put(local, "a/b c/d%20.txt", b"1")
    assert (root / "a/b c/d%20.txt").read_bytes() == b"1"
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["d%20.txt"]


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "..", "outside\0"])
def test_no_key_leads_out_of_the_folder(local: Store, root: Path, key: str) -> None:
    """As one of a manifest that somebody else wrote."""
    put(local, "a/b", b"1")
    outside = root.parent / "outside"
    outside.write_text("mine")

    assert local.stat(key) is None
    with pytest.raises(ObjectMissing):
        list(local.read(key))
    local.delete([key])
    assert outside.read_text() == "mine"


@pytest.fixture
def garbling_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that changes the last byte of what is written to it."""
    fsync = os.fsync

    def garble(descriptor: int) -> None:
        fsync(descriptor)
        size_bytes = os.fstat(descriptor).st_size
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and size_bytes:
            last = os.pread(descriptor, 1, size_bytes - 1)
            os.pwrite(descriptor, bytes((last[0] ^ 1,)), size_bytes - 1)

    monkeypatch.setattr(os, "fsync", garble)


@pytest.mark.usefixtures("garbling_disk")
@pytest.mark.parametrize("size_bytes", [1, 3 * MIB + 1])
def test_what_a_disk_garbles_gets_no_name(root: Path, tmp_path: Path, size_bytes: int) -> None:
    root.mkdir()
    store = LocalStore(f"file://{root}", root)
    path, body = large_file(tmp_path, size_bytes)
    with pytest.raises(ChecksumMismatch, match="reads back as other bytes"):
        store.put("a/b", body, meta_of(body))
    with pytest.raises(ChecksumMismatch, match="reads back as other bytes"):
        store.put_file("a/c", path, meta_of(body))
    assert not [found for found in root.rglob("*") if found.is_file()]


def test_a_file_where_a_folder_is_needed_is_the_items_conflict(local: Store, root: Path) -> None:
    put(local, "a", b"1")
    put(local, "b/c", b"1")
    for key in ("a/b", "a/b/c", "b"):
        for if_absent in (False, True):
            with pytest.raises(KeyConflict):
                put(local, key, if_absent=if_absent)
    assert keys(local) == ["a", "b/c"]
    assert local.stat("b") is None
    with pytest.raises(ObjectMissing):
        local.read_bytes("a/b")
    local.delete(["a/b", "b"])
    assert keys(local) == ["a", "b/c"]
    assert not [*root.rglob(".ingest-tmp-*")]


def test_no_link_leads_out_of_the_root(local: Store, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    (root / "way out").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    for key in ("way out/x", "way out/y/z"):
        with pytest.raises(KeyConflict):
            put(local, key)
    with pytest.raises(ObjectMissing):
        local.read_bytes("way out/secret")
    with pytest.raises(ObjectMissing):
        local.read_bytes("file")
    assert keys(local) == []
    local.delete(["way out/secret"])
    put(local, "file", b"ours")
    assert (outside / "secret").read_text() == "s"
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (root / "file").read_bytes() == b"ours"


def test_a_key_like_an_unfinished_file_is_refused_and_such_files_are_not_listed(
    local: Store, root: Path
) -> None:
    with pytest.raises(KeyInvalid):
        put(local, "a/.ingest-tmp-1")
    (root / ".ingest-tmp-left").write_text("a killed node left this")
    assert keys(local) == []


def test_a_name_that_is_too_long_is_the_items_fault(local: Store) -> None:
    with pytest.raises(KeyInvalid):
        put(local, "é" * 200)


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system as those of memory cards: no hard links, and no file without a name."""

    def link(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(folders, "_UNNAMED", 0)


@pytest.mark.usefixtures("no_links")
def test_what_is_there_is_kept_without_hard_links_too(root: Path, tmp_path: Path) -> None:
    local = probed(Destination(url=f"file://{root}"))
    assert local.capabilities.if_absent
    path, body = large_file(tmp_path, MIB)
    put(local, "a/k", b"first", if_absent=True)
    for store in (put, lambda *_, **named: local.put_file("a/k", path, meta_of(body), **named)):
        with pytest.raises(ObjectExists):
            store(local, "a/k", b"second", if_absent=True)
    (root / "folder").mkdir()
    with pytest.raises(KeyConflict):
        put(local, "folder", if_absent=True)
    assert local.read_bytes("a/k") == b"first"
    put(local, "a/k", b"third")
    assert local.read_bytes("a/k") == b"third"
    assert not [*root.rglob(".ingest-tmp-*")]


@pytest.mark.usefixtures("no_links")
def test_a_folder_that_cannot_keep_what_is_there_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_RENAME_NEW", "no_such_call")
    local = probed(Destination(url=f"file://{root}"))
    assert not local.capabilities.if_absent
    put(local, "k", b"1", if_absent=True)
    assert local.read_bytes("k") == b"1"


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who may not do everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_looked_into_is_named(local: Store, root: Path) -> None:
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        drive = LocalStore(f"file://{name}", Path(name))
        for key in ("a/k", "private/k", "z"):
            put(drive, key)
        (Path(name) / "lost+found").mkdir(mode=0)  # as ext4 makes one in the root of a drive
        with without_rights():
            assert keys(drive) == ["a/k", "private/k", "z"]
        (Path(name) / "private").chmod(0)
        with without_rights(), pytest.raises(StoreRefused, match="Permission denied: private/"):
            keys(drive)
        (Path(name) / "private").chmod(0o700)


def test_empty_folders_do_not_stay(local: Store, root: Path) -> None:
    put(local, "a/b/c", b"1")
    put(local, "a/d", b"1")
    local.delete(["a/b/c"])
    assert [path.name for path in sorted(root.rglob("*"))] == ["a", "d"]
    local.delete(["a/d"])
    assert [*root.iterdir()] == []


def test_puts_go_well_while_folders_are_removed(local: Store) -> None:
    faults: list[BaseException] = []

    def churn(name: str) -> None:
        try:
            for _ in range(150):
                put(local, f"f/g/{name}", b"1")
                local.delete([f"f/g/{name}"])
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=churn, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_one_of_many_conditional_puts_wins(local: Store) -> None:
    won: list[bytes] = []

    def race(body: bytes) -> None:
        try:
            put(local, "k", body, if_absent=True)
            won.append(body)
        except ObjectExists:
            pass

    threads = [threading.Thread(target=race, args=(bytes([number]),)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [local.read_bytes("k")] == won


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    store = probed(Destination(url=f"file://{tiny}/store"))
    with pytest.raises(StoreFull):
        put(store, "k", bytes(2 * MIB))
    path, body = large_file(tmp_path, 2 * MIB)
    with pytest.raises(StoreFull):
        store.put_file("k", path, meta_of(body))
    assert [*(tiny / "store").iterdir()] == []
    put(store, "k", bytes(MIB // 2))


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    require(os.geteuid() != 0 or Path("/proc").is_dir(), "needs a folder that not even root may write")
    if os.geteuid() == 0:
        with pytest.raises(StoreRefused):
            put(probed(Destination(url="file:///sys/kernel")), "k")
        return
    tmp_path.chmod(0o500)
    with pytest.raises(StoreRefused):
        probed(Destination(url=f"file://{tmp_path}/store"))
    tmp_path.chmod(0o700)
