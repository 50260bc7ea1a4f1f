from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import ConfigError, ItemError, SourceMissing, SourceUnreadable
from ingest.items import FileItem, Tile
from ingest.plugins.files import FileAsIs, Folder, FolderParams
from ingest.processors import Params, Source
from tests.plugins.making import context

NAMES = st.sampled_from(["a", "a-", "a.", "ab", "b", "é"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "card"
    folder.mkdir()
    return folder


def put(root: Path, *paths: str) -> None:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.fsencode(path))


def folder(root: Path, **params: Any) -> Folder:
    return Folder(FolderParams(root_dir=root, **params), context(root))


def listed(processor: Folder, after: str | None = None) -> list[str]:
    return [item.path for item in processor.paths(after)]


class TestListing:
    def test_is_depth_first_in_the_order_of_bytes(self, root: Path) -> None:
        put(root, "b", "a/z", "a/b/c", "a.d/x", "a-", "Z", "é", "\udcff")

        assert listed(folder(root)) == ["Z", "a/b/c", "a/z", "a-", "a.d/x", "b", "é", "\udcff"]

    def test_says_size_and_time(self, root: Path) -> None:
        put(root, "a")
        os.utime(root / "a", ns=(1, 1_700_000_000_123_456_789))

        assert list(folder(root).paths()) == [FileItem("a", 1, 1_700_000_000_123_456_789)]

    def test_goes_deeper_than_python_recurses(self, root: Path) -> None:
        deep = "d/" * 1200 + "file"
        at = os.open(root, os.O_RDONLY)
        for _ in range(1200):
            os.mkdir("d", dir_fd=at)
            at, above = os.open("d", os.O_RDONLY, dir_fd=at), at
            os.close(above)
        os.close(os.open("file", os.O_CREAT, dir_fd=at))
        os.close(at)

        try:
            assert listed(folder(root)) == [deep]
        finally:  # pytest's own cleaning up recurses
            subprocess.run(["rm", "-rf", root / "d"], check=True)

    def test_is_lazy(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put(root, "a/1", "b/1", "c/1")
        looked_into = spy_on_scandir(monkeypatch)

        next(folder(root).paths())

        assert [Path(path).name for path in looked_into] == ["card", "a"]

    def test_of_an_unreadable_folder_stops(self, root: Path) -> None:
        put(root, "a", "closed/b", "z")
        with closed(root / "closed"):
            with pytest.raises(SourceUnreadable, match="closed/' cannot be listed: Permission denied"):
                listed(folder(root))
            assert listed(folder(root, exclude=["closed/"])) == ["a", "z"]

    def test_of_a_root_that_vanished_stops(self, root: Path) -> None:
        with pytest.raises(SourceUnreadable, match="cannot be listed: No such file or directory"):
            listed(folder(root / "gone"))

    def test_of_a_folder_that_vanishes_stops(self, root: Path) -> None:
        put(root, "a", "b/c")
        paths = folder(root).paths()
        assert next(paths).path == "a"
        (root / "b" / "c").unlink()
        (root / "b").rmdir()

        with pytest.raises(SourceUnreadable, match=r"card/b/?' cannot be listed"):
            next(paths)

    def test_of_a_file_that_vanishes_still_lists_it(self, root: Path) -> None:
        put(root, "a", "b")
        paths = folder(root).paths()
        next(paths)
        (root / "b").unlink()

        assert list(paths) == [FileItem("b")]
        with pytest.raises(SourceMissing):
            folder(root).open(folder(root).path(FileItem("b")))

    def test_of_a_file_that_vanishes_when_it_was_asked_for_before(self, root: Path) -> None:
        put(root, "a")
        same = folder(root)
        same.open(same.path(FileItem("a")))
        (root / "a").unlink()

        path = same.path(FileItem("a"))

        with pytest.raises(SourceMissing):
            same.open(path)


class TestSeeking:
    TREE = ("a/b/c", "a/b/d", "a/e", "a-", "b/x", "b/y", "c")

    @pytest.mark.parametrize("place", range(len(TREE)))
    def test_goes_on_after_each_path(self, root: Path, place: int) -> None:
        put(root, *self.TREE)

        assert listed(folder(root), after=self.TREE[place]) == list(self.TREE[place + 1 :])

    @pytest.mark.parametrize(
        ("vanished", "first"),
        [("a/b/cc", "a/b/d"), ("a/bb", "a/e"), ("a/b/c/d", "a/b/d"), ("b", "b/x"), ("zz", None)],
    )
    def test_goes_on_after_a_path_that_is_gone(self, root: Path, vanished: str, first: str | None) -> None:
        put(root, *self.TREE)

        assert next(iter(listed(folder(root), after=vanished)), None) == first

    def test_looks_into_nothing_that_comes_before(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put(root, "a/1", "b/c/1", "b/d/1", "e/1")
        looked_into = spy_on_scandir(monkeypatch)

        assert listed(folder(root), after="b/d/0") == ["b/d/1", "e/1"]
        assert [str(Path(path).relative_to(root)) for path in looked_into] == [".", "b", "b/d", "e"]

    @settings(max_examples=60)
    @given(
        paths=st.lists(
            st.lists(st.sampled_from(["a", "a-", "a.", "ab", "b", "é"]), min_size=1, max_size=3).map(
                "/".join
            ),
            max_size=12,
        ),
        after=st.lists(st.sampled_from(["a", "a-", "a.", "ab", "b", "é"]), min_size=1, max_size=4).map(
            "/".join
        ),
    )
    def test_is_what_filtering_would_give(
        self, tmp_path_factory: pytest.TempPathFactory, paths: list[str], after: str
    ) -> None:
        root = tmp_path_factory.mktemp("tree")
        for path in paths:
            try:
                put(root, path + "/file")
            except OSError:
                continue
        whole = listed(folder(root))

        assert whole == sorted(whole, key=components)
        assert listed(folder(root), after) == [path for path in whole if components(path) > components(after)]


class TestLeavingOut:
    def test_hidden_and_system_files_are_counted(self, root: Path) -> None:
        put(root, "a", ".hidden", ".git/x/y", ".DS_Store", "._a", ".Trashes/b", "THUMBS.DB", "$RECYCLE.BIN/c")
        put(root, "System Volume Information/d", "lost+found/e")
        processor = folder(root)

        assert listed(processor) == ["a"]
        assert processor.left_out == {"hidden": 2, "system": 7}

    def test_hidden_files_come_when_asked_for(self, root: Path) -> None:
        put(root, ".hidden", "lost+found/e")

        assert listed(folder(root, hidden=True)) == [".hidden", "lost+found/e"]

    def test_patterns_are_gits(self, root: Path) -> None:
        put(root, "x.wav", "x.tmp", "audio/y.wav", "audio/raw/z.wav", "audio/log.txt", "old/w.wav")
        processor = folder(root, include=["*.wav"], exclude=["raw/", "/old", "*.tmp"])

        assert listed(processor) == ["audio/y.wav", "x.wav"]
        assert processor.left_out == {"excluded": 3, "not included": 1}
        assert listed(folder(root, include=["audio/"])) == ["audio/log.txt", "audio/raw/z.wav", "audio/y.wav"]
        assert listed(folder(root, exclude=["*.wav", "!x.wav"])) == ["audio/log.txt", "x.tmp", "x.wav"]

    @pytest.mark.parametrize("pattern", ["", "  ", "# note", "!"])
    def test_a_pattern_that_fits_nothing_is_refused(self, root: Path, pattern: str) -> None:
        with pytest.raises(ValueError, match="is no pattern"):
            folder(root, include=[pattern])

    def test_special_files_are_never_opened(self, root: Path) -> None:
        put(root, "a")
        os.mkfifo(root / "pipe")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(root / "socket"))
            processor = folder(root)
            assert listed(processor) == ["a"]
        assert processor.left_out == {"special file": 2}
        with pytest.raises(SourceUnreadable, match="no regular file"):
            processor.open(processor.path(FileItem("pipe")))

    def test_a_second_listing_counts_anew(self, root: Path) -> None:
        put(root, ".a", "b")
        processor = folder(root)

        assert listed(processor) == listed(processor)
        assert processor.left_out == {"hidden": 1}


class TestLinks:
    def test_are_left_out_and_counted(self, root: Path) -> None:
        put(root, "a", "f/b")
        (root / "link").symlink_to("a")
        (root / "folder link").symlink_to("f")
        (root / "dangling").symlink_to(root.parent / "nothing")
        processor = folder(root)

        assert listed(processor) == ["a", "f/b"]
        assert processor.left_out == {"symbolic link": 3}

    def test_to_what_lies_elsewhere_are_counted_apart(self, root: Path) -> None:
        put(root.parent, "other/key")
        put(root, "a")
        (root / "out").symlink_to("../other")
        (root / "out.txt").symlink_to(root.parent / "other/key")
        processor = folder(root)

        assert listed(processor) == ["a"]
        assert processor.left_out == {"symbolic link to what lies elsewhere": 2}

    def test_are_followed_when_asked_for(self, root: Path) -> None:
        put(root, "a", "f/b")
        (root / "link").symlink_to("a")
        (root / "more").symlink_to("f")
        processor = folder(root, follow_links=True)
        items = list(processor.paths())

        assert [item.path for item in items] == ["a", "f/b", "link", "more/b"]
        assert items[2].size_bytes == 1
        assert processor.path(items[2]) == f"{root}/link"

    def test_that_leave_the_root_are_failed_items(self, root: Path) -> None:
        put(root.parent, "secret/key")
        put(root, "a")
        (root / "out").symlink_to("../secret")
        (root / "out.txt").symlink_to("../secret/key")
        processor = folder(root, follow_links=True)
        items = list(processor.paths())

        assert [item.path for item in items] == ["a", "out", "out.txt"]
        for item in items[1:]:
            with pytest.raises(ItemError, match="symbolic link that leaves"):
                processor.path(item)

    def test_that_lead_nowhere_are_failed_items(self, root: Path) -> None:
        (root / "dangling").symlink_to("nothing")
        (root / "self").symlink_to("self")
        processor = folder(root, follow_links=True)

        assert listed(processor) == ["dangling", "self"]
        with pytest.raises(SourceMissing):
            processor.open(processor.path(FileItem("dangling")))
        with pytest.raises(ItemError):
            processor.open(processor.path(FileItem("self")))

    def test_in_a_circle_are_not_followed_forever(self, root: Path) -> None:
        put(root, "a/x", "b/y")
        (root / "a" / "to b").symlink_to("../b")
        (root / "b" / "to a").symlink_to("../a")
        (root / "to root").symlink_to(".")
        processor = folder(root, follow_links=True)

        assert listed(processor) == ["a/to b/y", "a/x", "b/to a/x", "b/y"]
        assert processor.left_out == {"link to a folder above it": 3}

    def test_the_root_may_be_one(self, root: Path, tmp_path: Path) -> None:
        put(root, "a")
        (tmp_path / "link").symlink_to(root)
        processor = folder(tmp_path / "link")

        assert [processor.path(item) for item in processor.paths()] == [f"{tmp_path}/link/a"]


class TestPath:
    @pytest.mark.parametrize(
        "path", ["../x", "a/../../x", "/etc/passwd", "", ".", "a//b", "a/./b", "\0", ".."]
    )
    def test_never_leaves_the_root(self, root: Path, path: str) -> None:
        with pytest.raises(ItemError, match="is no path below"):
            folder(root).path(FileItem(path))

    def test_a_file_that_became_a_link_is_refused(self, root: Path) -> None:
        put(root, "a")
        processor = folder(root)
        (item,) = processor.paths()
        (root / "a").unlink()
        (root / "a").symlink_to("/etc/hostname")

        with pytest.raises(ItemError, match="leaves"):
            processor.path(item)

    def test_tiles_are_refused(self, root: Path) -> None:
        with pytest.raises(ItemError, match="type 'files'"):
            folder(root).path(Tile(0, 0, 0))

    def test_open_gives_the_file(self, root: Path) -> None:
        put(root, "a/b")
        processor = folder(root)
        with processor.open(processor.path(FileItem("a/b"))) as path:
            assert path.read_text() == "a/b"


class TestCheck:
    def test_a_folder_is_fine(self, root: Path) -> None:
        put(root, "a")
        folder(root).check()

    def test_an_empty_one_may_be_where_a_drive_is_not_mounted(self, root: Path) -> None:
        with pytest.raises(ConfigError, match="is empty") as caught:
            folder(root).check()
        assert caught.value.place == "path_processor.params.root_dir"
        assert caught.value.hint == "is its drive mounted?"

    def test_a_missing_one_is_not(self, root: Path) -> None:
        with pytest.raises(ConfigError, match="there is no folder") as caught:
            folder(root / "gone").check()
        assert caught.value.place == "path_processor.params.root_dir"

    def test_a_file_is_not(self, root: Path) -> None:
        put(root, "file")
        with pytest.raises(ConfigError, match="is a file; expected a folder"):
            folder(root / "file").check()

    def test_unknown_parameters_are_refused(self, root: Path) -> None:
        with pytest.raises(ValueError, match="rootdir"):
            folder(root, rootdir="x")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.png", "image/png"),
        ("a.JPG", "image/jpeg"),
        ("a.csv", "text/csv"),
        ("a.json", "application/json"),
        ("a.tar.gz", "application/octet-stream"),
        ("a.mseed", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_file_as_is(tmp_path: Path, name: str, media_type: str) -> None:
    source = Source(FileItem(name), tmp_path / name)

    (upload,) = FileAsIs(Params(), context(tmp_path)).uploads(source)

    assert (upload.body, upload.content_type) == (tmp_path / name, media_type)


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Make a folder unreadable, for root too, who has to become somebody else for that."""
    user = os.geteuid()
    folder.chmod(0)
    for above in folder.parents if user == 0 else ():
        if above.stat().st_uid == 0 and above.stat().st_mode & 0o777 == 0o700:
            above.chmod(0o711)
    try:
        if user == 0:
            folder.parent.chmod(0o755)
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


def components(path: str) -> list[bytes]:
    return [os.fsencode(name) for name in path.split("/")]


def spy_on_scandir(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    looked_into: list[str] = []
    scandir = os.scandir

    def spy(path: str) -> Any:
        looked_into.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", spy)
    return looked_into
