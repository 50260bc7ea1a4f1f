"""Cards: listed whole, copied first, and never written to."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ingest.card_reading import Reading
from ingest.errors import ConfigError, ItemError, KeyConflict, KeyInvalid, SourceUnreadable, Stopped
from ingest.items import FileItem, as_utf8
from ingest.plugins.card import Card, CardParams
from ingest.plugins.card_file import CardFile
from ingest.processors import Params, Source
from tests.needs import require
from tests.plugins.making import context
from tests.plugins.media import jpeg

DAY = "2026-01-31"
MS = 1_764_244_800_123


def card(root: Path, **params: Any) -> Card:
    return Card(CardParams(root_dir=root, **{"device": "cam-07", **params}), context(root.parent))


def put(path: Path, body: bytes = b"body", ms: int = MS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    os.utime(path, ns=(ms * 1_000_000, ms * 1_000_000))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "card" / "DCIM" / "100" / "IMG_1.JPG")
    return tmp_path / "card"


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    (tmp_path / "backup").mkdir()
    return tmp_path / "backup"


def listed(processor: Card) -> list[str]:
    return [item.path for item in processor.paths()]


class TestListing:
    def test_takes_hidden_files_and_leaves_what_systems_make(self, root: Path) -> None:
        for name in (".hidden", "._IMG_1.JPG", "System Volume Information/x", ".Trashes/y", "a/.b/c"):
            put(root / name)
        processor = card(root)

        assert listed(processor) == [".hidden", "DCIM/100/IMG_1.JPG", "a/.b/c"]
        assert processor.left_out == {"system": 3}
        assert listed(card(root, hidden=False)) == ["DCIM/100/IMG_1.JPG"]

    def test_takes_what_a_repair_of_the_disk_found_or_says_that_it_may_not(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(root / "lost+found" / "#12" / "x")
        processor = card(root)
        assert listed(processor) == ["DCIM/100/IMG_1.JPG", "lost+found/#12/x"]
        assert processor.left_out == {}

        monkeypatch.setattr(os, "access", lambda path, mode: "lost+found" not in str(path))  # root may all

        assert listed(processor) == ["DCIM/100/IMG_1.JPG"]
        assert processor.left_out == {"lost+found that only root may look into": 1}

    def test_where_folders_name_devices_a_file_beside_them_fails(self, root: Path) -> None:
        put(root / "astray.txt")
        processor = card(root, device=None)

        flaws = {item.path: item.flaw for item in processor.paths()}
        assert flaws == {
            "DCIM/100/IMG_1.JPG": "",
            "astray.txt": "it lies in no device's folder: move it into one",
        }
        assert processor.fields(FileItem("wt-a1/x"))["device"] == "wt-a1"
        with pytest.raises(KeyInvalid, match="no device's folder"):
            processor.fields(FileItem("astray.txt"))

    def test_refuses_a_device_that_could_lead_astray(self, root: Path) -> None:
        with pytest.raises(ValueError, match="is no device ID"):
            card(root, device="../x")


class TestNames:
    def test_of_one_time_are_told_apart_in_their_order(self, root: Path) -> None:
        for name in ("IMG_3.JPG", "IMG_2.JPG", "IMG_1.CR2", "IMG_4.jpg"):
            put(root / "DCIM" / "100" / name)
        put(root / "DCIM" / "101" / "IMG_1.JPG")
        put(root / "DCIM" / "100" / "IMG_9.JPG", ms=MS + 1)
        processor = card(root, epoch_names=True)

        assert {item.path: processor.fields(item)["epoch_name"] for item in processor.paths()} == {
            "DCIM/100/IMG_1.CR2": f"{MS}.CR2",
            "DCIM/100/IMG_1.JPG": f"{MS}.JPG",
            "DCIM/100/IMG_2.JPG": f"{MS}_1.JPG",
            "DCIM/100/IMG_3.JPG": f"{MS}_2.JPG",
            "DCIM/100/IMG_4.jpg": f"{MS}_3.jpg",
            "DCIM/100/IMG_9.JPG": f"{MS + 1}.JPG",
            "DCIM/101/IMG_1.JPG": f"{MS}.JPG",
        }

    def test_that_are_not_utf_8_are_escaped(self, root: Path) -> None:
        odd = put(Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9 100%.wav")))
        [item] = [item for item in card(root).paths() if "/" not in item.path]

        fields = card(root).fields(item)
        assert os.fsencode(odd.name) == b"caf\xe9 100%.wav"
        assert {fields["path"], fields["name"]} == {"caf%E9 100%25.wav"}
        assert (fields["stem"], fields["suffix"]) == ("caf%E9 100%25", ".wav")
        assert as_utf8("100%.wav") == "100%.wav"

    def test_need_a_time(self, root: Path) -> None:
        with pytest.raises(KeyInvalid, match="modification time of 'gone' is not known"):
            card(root, epoch_names=True).fields(FileItem("gone"))

    def test_say_the_day_of_the_job(self, root: Path) -> None:
        assert card(root).fields(FileItem("x")) == {"device": "cam-07", "ingest_date": DAY}


def opened(processor: Card, item: FileItem) -> tuple[Path, dict[str, str]]:
    path = processor.path(item)
    with processor.open(path) as file:
        return file, dict(processor.facts(path))


class TestBackup:
    def test_is_made_first_and_served(self, root: Path, backup: Path) -> None:
        processor = card(root, backup_dir=backup)
        [item] = processor.paths()

        file, facts = opened(processor, item)

        assert file == backup / DAY / "cam-07" / "DCIM" / "100" / "IMG_1.JPG"
        assert file.read_bytes() == b"body"
        assert file.stat().st_mtime_ns == item.mtime_ns
        assert facts == {
            "device": "cam-07",
            "source_path": "DCIM/100/IMG_1.JPG",
            "source_sha256": hashlib.sha256(b"body").hexdigest(),
            "backup": str(file),
        }

    def test_of_an_earlier_day_is_taken_where_it_is_equal(self, root: Path, backup: Path) -> None:
        other = put(backup / "2026-01-29" / "cam-07" / "DCIM" / "100" / "IMG_1.JPG", b"BODY")
        equal = put(backup / "2026-01-28" / "cam-07" / "DCIM" / "100" / "IMG_1.JPG")
        put(backup / "2027-01-01" / "cam-07" / "DCIM" / "100" / "IMG_1.JPG")

        file, facts = opened(card(root, backup_dir=backup), FileItem("DCIM/100/IMG_1.JPG"))

        assert file == equal
        assert facts["backup"] == str(equal)
        assert other.read_bytes() == b"BODY"
        assert not (backup / DAY).exists()

    def test_is_never_overwritten(self, root: Path, backup: Path) -> None:
        there = put(backup / DAY / "cam-07" / "DCIM" / "100" / "IMG_1.JPG", b"BODY")

        with pytest.raises(KeyConflict, match=r"another card of the device, .* --move-names"):
            opened(card(root, backup_dir=backup), FileItem("DCIM/100/IMG_1.JPG"))
        assert there.read_bytes() == b"BODY"

    def test_has_the_epoch_name_and_the_devices_folder(self, root: Path, backup: Path) -> None:
        put(root / "wt-a1" / "x.csv")

        file, _ = opened(
            card(root, device=None, backup_dir=backup, epoch_names=True), FileItem("wt-a1/x.csv")
        )

        assert file == backup / DAY / "wt-a1" / f"{MS}.csv"

    def test_must_lie_outside_the_card(self, root: Path) -> None:
        with pytest.raises(ConfigError, match="lies inside"):
            card(root, backup_dir=root / "DCIM").check()

    def test_must_lie_on_another_disk_than_the_card(self, tmp_path: Path) -> None:
        disk = Path("/dev/shm")
        require(disk.is_dir() and disk.stat().st_dev != tmp_path.stat().st_dev, "a disk beside that of /tmp")
        with TemporaryDirectory(dir=disk) as folder:
            mounted = Path(folder)
            put(mounted / "DCIM" / "a.jpg")
            with pytest.raises(ConfigError, match=r"the backup folder .* lies on the same disk"):
                card(mounted / "DCIM", backup_dir=mounted / "backup").check()
            onto = card(mounted / "DCIM", backup_dir=tmp_path / "backup")
            onto.context.config["destination"] = {"url": f"file://{mounted}/stored"}  # type: ignore[index]
            with pytest.raises(ConfigError, match=r"the destination .* lies on the same disk"):
                onto.check()
            assert [path.name for path in mounted.iterdir()] == ["DCIM"]
            card(mounted / "DCIM", backup_dir=tmp_path / "backup").check()

    def test_that_is_not_there_is_said(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="is not there"):
            card(root, backup_dir=tmp_path / "no" / "backup").check()

    def test_without_one_the_file_itself_is_served(self, root: Path) -> None:
        file, facts = opened(card(root), FileItem("DCIM/100/IMG_1.JPG"))

        assert file == root / "DCIM/100/IMG_1.JPG"
        assert facts == {"device": "cam-07", "source_path": "DCIM/100/IMG_1.JPG"}


def test_a_name_that_needs_epoch_names_is_refused_without(root: Path) -> None:
    processor = card(root)
    processor.context.config["destination"] = {"key": "{device}/{epoch_name}"}  # type: ignore[index]

    with pytest.raises(ConfigError, match="only with `epoch_names`"):
        processor.check()
    processor.context.config["destination"] = None  # type: ignore[index]
    processor.check()


class TestReading:
    def test_takes_the_hash_on_the_way(self, tmp_path: Path) -> None:
        path = put(tmp_path / "file", b"0123456789")
        reading = Reading(path, lambda: None)

        with (tmp_path / "copy").open("wb") as copy:
            assert reading.fetch(copy, 0) == hashlib.sha256(b"0123456789").hexdigest()
        path.unlink()
        assert reading.sha256() == hashlib.sha256(b"0123456789").hexdigest()

    def test_goes_on_from_an_offset_and_then_knows_no_hash_yet(self, tmp_path: Path) -> None:
        path = put(tmp_path / "file", b"0123456789")
        reading = Reading(path, lambda: None)

        with (tmp_path / "copy").open("wb") as copy:
            assert reading.fetch(copy, 7) is None
        assert (tmp_path / "copy").read_bytes() == b"789"
        assert reading.sha256() == hashlib.sha256(b"0123456789").hexdigest()

    def test_is_interrupted(self, tmp_path: Path) -> None:
        def stop() -> None:
            raise Stopped("stop")

        with pytest.raises(Stopped):
            Reading(put(tmp_path / "file"), stop).sha256()

    def test_says_what_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ItemError, match="there is no file"):
            Reading(tmp_path / "gone", lambda: None).sha256()
        with pytest.raises(SourceUnreadable, match="cannot be read to its end: Is a directory"):
            Reading(tmp_path, lambda: None).sha256()

    @pytest.mark.skipif(not hasattr(os, "O_NOATIME"), reason="this system has no O_NOATIME")
    def test_leaves_the_time_of_last_access(self, tmp_path: Path) -> None:
        path = put(tmp_path / "file")

        Reading(path, lambda: None).sha256()

        assert path.stat().st_atime_ns == MS * 1_000_000


def test_a_card_file_says_when_it_was_made(tmp_path: Path) -> None:
    path = put(tmp_path / "x.jpg", jpeg("2026:06:01 12:00:00"))
    broken = put(tmp_path / "y.jpg", jpeg("2026:06:01 12:00:00")[:50])
    processor = CardFile(Params(), context(tmp_path))

    [upload] = processor.uploads(Source(FileItem("x.jpg"), path))
    [other] = processor.uploads(Source(FileItem("y.jpg"), broken))

    assert (upload.body, upload.content_type) == (path, "image/jpeg")
    assert upload.metadata == {"captured_at": "2026-06-01T12:00:00", "captured_at_from": "exif"}
    assert (other.body, other.metadata) == (broken, {})
