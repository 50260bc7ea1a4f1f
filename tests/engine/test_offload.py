"""Memory cards, offloaded by the command: two verified copies of each file, or a word against reusing the card."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest import card_check, offloads
from ingest.card_check import check_card
from ingest.cli import offload as cli_offload
from ingest.config import Settings
from ingest.device_list import FileDeviceList
from ingest.devices import LIST_NAME
from ingest.digests import pieces_of
from ingest.items import FileItem
from ingest.job import Job
from ingest.manifest import read_manifest
from tests.card_trial import DEVICE, look, make_card, offload, run_trial
from tests.cluster import run
from tests.engine.making import bucket_of, files_below, objects, s3_folder
from tests.s3_servers import S3Server

FILES = 120
MS = 1_764_244_800_123


def test_a_card_is_offloaded_twice(tmp_path: Path, redis_url: str) -> None:
    assert "nothing moved" in "".join(run_trial(tmp_path, FILES))


@pytest.fixture
def card(tmp_path: Path) -> Path:
    for name in ("b.txt", "DCIM/a.txt", "DCIM/c.txt"):
        path = tmp_path / "card" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, ns=(MS * 1_000_000, MS * 1_000_000))
    return tmp_path / "card"


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    (tmp_path / "backup").mkdir()
    return tmp_path / "backup"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    folder = tmp_path / "stored"
    FileDeviceList(folder / LIST_NAME).add([DEVICE, "wt-a1b2c3"])
    return folder


def data_below(folder: Path) -> dict[str, bytes]:
    raw = files_below(folder / "raw")
    return {name.split("/", 1)[1]: body for name, body in raw.items() if not name.startswith("hash/")}


def test_a_card_goes_to_s3_and_nothing_goes_twice(
    tmp_path: Path, redis_url: str, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, backup: Path
) -> None:
    make_card(tmp_path / "card", 40)
    destination = s3_folder(rclone_s3, monkeypatch)
    sets = [f"destination.{name}={destination[name]}" for name in ("endpoint_url", "region")]
    options: list[str | Path] = ["--to", f"s3://{bucket_of(destination)}", "--backup", backup]
    options += [word for one in sets for word in ("--set", one)]
    devices = tmp_path / "devices.txt"
    devices.write_text(f"other\n{DEVICE}\n")

    first = offload(tmp_path / "card", *options, "--devices", devices)
    stored = objects(rclone_s3, bucket_of(destination))
    copied = look(backup)
    second = offload(tmp_path / "card", *options, "--devices", devices, "--read-back")

    assert (first.code, first.card["safe"], first.card["files"]) == (0, True, 40), first
    assert (second.code, second.card["safe"]) == (0, True), second
    assert second.counts["items"]["skipped"] == 40
    again = objects(rclone_s3, bucket_of(destination))
    ours = [key for key in again if key.startswith("raw/") and not key.startswith("raw/hash/jobs/")]
    assert {key: stored.get(key) for key in ours} == {key: again[key] for key in ours}
    assert look(backup) == copied


def test_times_and_copies_are_in_the_manifest(
    tmp_path: Path, redis_url: str, backup: Path, stored: Path
) -> None:
    make_card(tmp_path / "card", 30)

    done = offload(tmp_path / "card", "--to", stored, "--backup", backup)

    job = Job(done.job_id, Settings.load())
    rows = {row["item"]: row for row in read_manifest(job.store, job.job_id, job.settings.scratch)}
    assert len(rows) == 30
    times = {item: dict(row["metadata"]).get("captured_at_from") for item, row in rows.items()}
    assert times["DCIM/101CANON/corrupt.jpg"] is None
    assert set(times.values()) == {"exif", "mvhd", "bext", None}
    for row in rows.values():
        facts = dict(row["metadata"])
        assert facts["device"] == DEVICE
        assert facts["source_sha256"] == row["sha256"]
        assert facts["backup"].startswith(f"{backup}/")


def test_without_a_backup_the_card_is_not_to_be_reused(card: Path, redis_url: str, stored: Path) -> None:
    done = offload(card, "--to", stored)

    assert (done.code, done.card["safe"]) == (0, False)
    assert done.card["reasons"] == ["there is no backup copy: give --backup DIR, on another disk"]
    assert set(data_below(stored)) == {f"{DEVICE}/{name}" for name in ("b.txt", "DCIM/a.txt", "DCIM/c.txt")}


def test_moved_names_are_times(card: Path, redis_url: str, stored: Path, backup: Path) -> None:
    done = offload(card, "--to", stored, "--backup", backup, "--move-names")

    names = {f"{DEVICE}/{MS}.txt", f"{DEVICE}/DCIM/{MS}.txt", f"{DEVICE}/DCIM/{MS}_1.txt"}
    assert (done.code, done.card["safe"]) == (0, True)
    [record] = offloads.read(Settings.load(), DEVICE)
    assert (record["job_id"], record["backup"]) == (done.job_id, str(backup))
    assert record["destination"]["url"] == f"file://{stored}"
    assert data_below(stored).keys() == names
    assert data_below(stored)[f"{DEVICE}/DCIM/{MS}_1.txt"] == b"DCIM/c.txt"
    assert {name.split("/", 1)[1] for name in files_below(backup)} == names


def test_a_folder_of_devices(tmp_path: Path, card: Path, redis_url: str, stored: Path, backup: Path) -> None:
    both = tmp_path / "data"
    both.mkdir()
    card.rename(both / DEVICE)
    (both / "wt-a1b2c3").mkdir()
    (both / "wt-a1b2c3" / "x.csv").write_text("x")
    for name in ("System Volume Information", ".Trashes"):
        (both / name).mkdir()
        (both / name / "x").write_text("of the system's")
    (both / "lost+found").mkdir()

    done = offload(both, "--to", stored, "--backup", backup, device=None)

    names = {f"{DEVICE}/{name}" for name in ("b.txt", "DCIM/a.txt", "DCIM/c.txt")} | {"wt-a1b2c3/x.csv"}
    assert (done.code, done.card["safe"]) == (0, True)
    assert data_below(stored).keys() == names
    assert {name.split("/", 1)[1] for name in files_below(backup)} == names
    (both / ".mg-9").mkdir()
    (both / ".mg-9" / "x").write_text("x")
    (both / "lost+found" / "#12").write_text("found by a repair")
    kept = offload(both, "--to", stored, "--backup", backup, device=None)
    assert (kept.code, kept.card["safe"]) == (3, False)
    no_copy = "has no copy: it failed, or is new on the card"
    assert kept.card["reasons"] == [f".mg-9/x: {no_copy}", f"lost+found/#12: {no_copy}"]
    assert "it lies in no device's folder: move it into one" in run("failures", "-j", kept.job_id).stdout
    (both / "mg-9").mkdir()
    refused = offload(both, "--to", stored, device=None)
    assert refused.code == 2
    assert "the device 'mg-9' is not registered" in refused.errors


def test_what_a_repair_of_the_card_found_is_taken_or_the_card_is_kept(
    card: Path, redis_url: str, stored: Path, backup: Path
) -> None:
    (card / "lost+found").mkdir()
    (card / "lost+found" / "#12").write_text("found by a repair")

    done = offload(card, "--to", stored, "--backup", backup)

    assert (done.code, done.card["safe"]) == (0, True)
    assert data_below(stored)[f"{DEVICE}/lost+found/#12"] == b"found by a repair"


def test_a_dry_run_says_what_goes_where(card: Path, stored: Path, backup: Path) -> None:
    backup.rmdir()
    done = run("offload", str(card), DEVICE, "--to", str(stored), "--backup", str(backup), "--dry-run")

    assert done.returncode == 0, done.stderr
    assert f"{card}/DCIM/a.txt -> raw/" in done.stdout
    assert f"/{DEVICE}/DCIM/a.txt\n" in done.stdout
    assert not [path.name for path in (*stored.iterdir(), *backup.parent.iterdir()) if "backup" in path.name]
    assert f"backup copies would go below {backup}\n" in done.stderr


def test_an_unknown_device_is_refused_with_the_nearest(card: Path, stored: Path) -> None:
    refused = offload(card, "--to", stored, device="cam-70")

    assert refused.code == 2
    assert f"did you mean '{DEVICE}'?" in refused.errors
    assert json.dumps(refused.card) == "{}"


def _day(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.name.startswith("20")) / DEVICE


def _garble(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


def _put_in_another_card(path: Path) -> None:
    """Another card of the device, whose clock begins anew with each: its names, sizes and times are the same."""
    info = path.stat()
    _garble(path)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


Break = Callable[[str, Path, Path, Path], object]
BREAKS: dict[str, tuple[Break, str]] = {
    "copy-gone": (lambda name, card, backup, raw: (backup / name).unlink(), "No such file"),
    "copy-garbled": (lambda name, card, backup, raw: _garble(backup / name), "has other bytes"),
    "object-gone": (lambda name, card, backup, raw: (raw / name).unlink(), "is missing at the destination"),
    "object-garbled": (lambda name, card, backup, raw: _garble(raw / name), "has other bytes"),
    "new": (lambda name, card, backup, raw: (card / f"{name}er").write_text("new"), "is new on the card"),
    "written": (
        lambda name, card, backup, raw: (card / name).write_text("WRITTEN"),
        "was written on the card",
    ),
    "another": (lambda name, card, backup, raw: _put_in_another_card(card / name), "is it another card?"),
}
"""What makes a card unsafe, by a file's name: from that, the card, the backup and the objects; and how it is said."""


def test_a_copy_that_is_not_proven_keeps_the_card(
    card: Path, redis_url: str, stored: Path, backup: Path
) -> None:
    for name in BREAKS:
        (card / name).write_text(f"{name}, as it was")
    done = offload(card, "--to", stored, "--backup", backup)
    job = Job(done.job_id, Settings.load())
    looked_at: list[FileItem] = []
    assert check_card(job, has_backup=True, looked_at=looked_at.append).is_safe
    assert {file.path for file in looked_at} == {*BREAKS, "b.txt", "DCIM/a.txt", "DCIM/c.txt"}

    for name, (break_it, _) in BREAKS.items():
        break_it(name, card, _day(backup), _day(stored / "raw"))

    found = check_card(job, has_backup=True)
    problems = dict(reason.split(": ", 1) for reason in found.reasons)
    assert not found.is_safe
    assert found.problem_count == len(BREAKS)
    for name, (_, reason) in BREAKS.items():
        assert reason in problems["newer" if name == "new" else name]


def test_a_check_that_is_interrupted_does_not_read_on(
    card: Path, redis_url: str, stored: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = offload(card, "--to", stored, "--backup", backup)
    real = pieces_of

    def large(path: Path) -> Iterator[bytes]:
        yield from itertools.repeat(b"x") if path.name == "b.txt" else real(path)

    def interrupt(file: FileItem) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(card_check, "pieces_of", large)
    with pytest.raises(KeyboardInterrupt):
        check_card(Job(done.job_id, Settings.load()), has_backup=True, looked_at=interrupt)


def test_how_far_the_verifying_is_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verifying = cli_offload.Verifying(silent=False)
    verifying.looked_at(FileItem("a", 3 << 30))
    assert capsys.readouterr().err == "verifying the copies\n"
    monkeypatch.setattr(cli_offload, "SAID_EVERY_S", -1.0)
    verifying.looked_at(FileItem("b", 1 << 30))
    assert capsys.readouterr().err == "verifying: 2 files, 4.0 GiB so far\n"


def test_files_that_nobody_wanted_keep_the_card(
    card: Path, redis_url: str, stored: Path, backup: Path
) -> None:
    exclude = 'path_processor.params.exclude=["*.txt", "!b.txt"]'
    done = offload(card, "--to", stored, "--backup", backup, "--set", exclude)

    assert (done.code, done.card["safe"], done.card["files"]) == (3, False, 1)
    assert done.card["reasons"] == ["left out: 2 excluded"]


def test_a_backup_copy_that_is_the_object_itself_is_no_second_copy(
    card: Path, redis_url: str, stored: Path
) -> None:
    (stored / "raw").mkdir()
    done = offload(card, "--to", stored, "--backup", stored / "raw")

    assert (done.code, done.card["safe"]) == (3, False)
    assert len(done.card["reasons"]) == 3
    assert all("is the stored object itself" in reason for reason in done.card["reasons"])


def test_what_a_link_leads_to_beside_the_card_is_not_copied_and_keeps_it(
    tmp_path: Path, card: Path, redis_url: str, stored: Path, backup: Path
) -> None:
    both = tmp_path / "data"
    (both / "wt-a1b2c3").mkdir(parents=True)
    (both / "wt-a1b2c3" / "x.csv").write_text("x")
    (both / DEVICE).symlink_to(card)

    done = offload(both, "--to", stored, "--backup", backup, device=None)

    assert (done.code, done.card["safe"], done.card["files"]) == (3, False, 1)
    assert done.card["reasons"] == ["left out: 1 symbolic link to what lies elsewhere"]


def test_a_copy_that_is_the_file_on_the_card_itself_is_none(
    card: Path, redis_url: str, stored: Path, backup: Path
) -> None:
    done = offload(card, "--to", stored, "--backup", backup)
    job = Job(done.job_id, Settings.load())
    copy, stored_object = _day(backup) / "b.txt", _day(stored / "raw") / "DCIM" / "a.txt"
    for path, source in ((copy, card / "b.txt"), (stored_object, card / "DCIM" / "a.txt")):
        path.unlink()
        path.hardlink_to(source)

    found = check_card(job, has_backup=True)

    problems = dict(reason.split(": ", 1) for reason in found.reasons)
    assert problems.keys() == {"b.txt", "DCIM/a.txt"}
    assert all("is the file on the card itself" in problem for problem in problems.values())


def test_a_name_that_another_is_written_as_does_not_stand_for_it(
    tmp_path: Path, redis_url: str, stored: Path, backup: Path
) -> None:
    card = tmp_path / "card"
    card.mkdir()
    for name in (b"caf\xe9", rb"caf\udce9"):
        path = card / os.fsdecode(name)
        path.write_bytes(name[:4])
        os.utime(path, (MS // 1000, MS // 1000))
    done = offload(card, "--to", stored, "--backup", backup)
    assert (done.code, done.card["safe"], done.card["files"]) == (0, True, 2)
    (_day(backup) / os.fsdecode(b"caf\xe9")).write_bytes(b"CAFE")

    again = offload(card, "--to", stored, "--backup", backup)

    assert (again.code, again.card["safe"], again.card["files"]) == (3, False, 2)
    assert len(again.card["reasons"]) == 1
