"""Jobs with items that fail, processes that die, and disks that fill up."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest import manifest
from ingest.ledger import State
from tests.audit import audit, make_files
from tests.cluster import Command
from tests.engine.conftest import Invoke
from tests.engine.making import MIB, create, files_below, files_config, open_job, said, until

POISON = """
import os
from ingest.processors import TileProcessor, Upload

class Poisoned(TileProcessor):
    def uploads(self, source):
        if source.item.name == "rec-04.dat":
            os.kill(os.getpid(), 9)
        yield Upload(source.path)
"""


def test_failed_items_are_told_mended_and_tried_again(tmp_path: Path, redis_url: str, invoke: Invoke) -> None:
    # Given keys that hold other content already, and a name that is not UTF-8
    expected = make_files(tmp_path / "source", 40)
    stored = tmp_path / "stored"
    taken = ["day-0/site 0/rec-00000.dat", "day-1/site 1/rec-00001.dat"]
    for key in taken:
        (stored / key).parent.mkdir(parents=True)
        (stored / key).write_bytes(b"of someone else")
    odd = os.fsencode(tmp_path / "source") + b"/caf\xe9.dat"
    Path(os.fsdecode(odd)).write_bytes(b"menu")
    config = files_config(tmp_path, tmp_path / "source", f"file://{stored}")

    # When the job is done, then it has failed, and says which items and why
    job = create(config, expect=3)
    status = job.status()
    assert status.state is State.FAILED
    counts = status.counts
    assert (counts.done, counts.failed, counts.skipped) == (38, 3, 0)
    failures = {failure["item"]: failure for failure in said(invoke, "failures", "-j", job.job_id)}
    assert sorted(failures) == sorted([*taken, "caf\udce9.dat"])
    assert {failures[key]["error"] for key in taken} == {"KeyConflict"}
    assert "exists with other content" in failures[taken[0]]["reason"]
    assert "keeps both" in failures[taken[0]]["reason"]
    assert failures["caf\udce9.dat"]["error"] == "KeyInvalid"
    assert {key: (stored / key).read_bytes() for key in taken} == dict.fromkeys(taken, b"of someone else")
    assert invoke("failures", "-j", job.job_id).exit_code == 0, "a name that is no text can be printed"
    summary = json.loads((stored / ".ingest" / job.job_id / "job.json").read_text())
    assert summary["state"] == "failed"
    assert len(summary["failures"]) == 3
    rows = [*manifest.read_manifest(job.store, job.job_id, job.settings.scratch)]
    assert len(rows) == 38

    # When what was wrong is mended, one file also having grown, and the job is reopened
    for key in taken:
        (stored / key).unlink()
    grown = expected[taken[0]] + b" and more"
    (tmp_path / "source" / taken[0]).write_bytes(grown)
    Path(os.fsdecode(odd)).unlink()
    done = invoke("retry", "-j", job.job_id)
    assert done.exit_code == 0
    assert "3 items to be tried again" in done.stdout
    assert invoke("retry", "-j", job.job_id).exit_code == 2, "it is open already"
    with Command("join", "-j", job.job_id, "--json", "-p", "2") as node:
        assert node.exit_code() == 3

    # Then the one that is missing is what is left
    (failure,) = said(invoke, "failures", "-j", job.job_id)
    assert (failure["item"], failure["error"]) == ("caf\udce9.dat", "SourceMissing")
    Path(os.fsdecode(odd)).write_bytes(b"menu")
    assert files_below(stored) == {**expected, taken[0]: grown}
    rows = [*manifest.read_manifest(job.store, job.job_id, job.settings.scratch)]
    assert sorted(row["key"] for row in rows) == sorted(expected)
    subprocess.run(
        ["sha256sum", "-c", "--strict", "--quiet", f".ingest/{job.job_id}/manifest-sha256.txt"],
        cwd=stored,
        check=True,
    )

    # When it is reopened once more and given up, then all that it stored can be deleted
    assert invoke("retry", "-j", job.job_id).exit_code == 0
    assert invoke("cancel", "-j", job.job_id, "--yes", "--delete-uploaded").exit_code == 0
    assert files_below(stored) == {}


def test_mended_items_complete_the_job(tmp_path: Path, redis_url: str, invoke: Invoke) -> None:
    expected = make_files(tmp_path / "source", 12)
    stored = tmp_path / "stored"
    taken = stored / "day-0/site 0/rec-00000.dat"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"of someone else")
    job = create(files_config(tmp_path, tmp_path / "source", f"file://{stored}"), expect=3)
    taken.unlink()

    assert invoke("retry", "-j", job.job_id).exit_code == 0
    with Command("join", "-j", job.job_id, "--json", "-p", "1") as node:
        assert node.exit_code() == 0

    audit(job, expected, files_below(stored))
    assert job.status().state is State.COMPLETE


@pytest.mark.timeout(180)
def test_an_item_that_kills_its_process_fails_alone(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    plugins, source, stored = tmp_path / "plugins", tmp_path / "source", tmp_path / "stored"
    plugins.mkdir()
    source.mkdir()
    (plugins / "poison.py").write_text(POISON)
    monkeypatch.setenv("INGEST_PLUGIN_PATHS", f"{plugins}/")
    for number in range(8):
        (source / f"rec-{number:02}.dat").write_bytes(b"%d" % number)
    config = files_config(tmp_path, source, f"file://{stored}", tile_processor={"class": "poison.Poisoned"})

    job = create(config, expect=3)

    assert job.status().state is State.FAILED
    (failure,) = said(invoke, "failures", "-j", job.job_id)
    assert failure["item"] == "rec-04.dat"
    assert "died 3 times" in failure["reason"]
    others = {f"rec-{number:02}.dat": b"%d" % number for number in range(8) if number != 4}
    left = files_below(stored)
    assert left == others
    counts = job.status().counts
    # In a folder nobody knows who stored what an attempt before this one did: it counts as skipped.
    assert (counts.done + counts.skipped, counts.failed) == (7, 1)
    rows = [*manifest.read_manifest(job.store, job.job_id, job.settings.scratch)]
    assert {row["key"] for row in rows} == set(others)
    assert {row["attempt"] for row in rows} == {4}, (
        "the first kill, two with it in hand, and the one that counted"
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no file system may be mounted here: {mount.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.timeout(180)
def test_a_full_disk_pauses_the_job_and_fails_nothing(
    tmp_path: Path, redis_url: str, small_disk: Path
) -> None:
    expected = make_files(tmp_path / "source", 30, size_bytes=30_000)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 * MIB // 2))
    config = files_config(tmp_path, tmp_path / "source", f"file://{small_disk}/stored")
    with Command("create", str(config), "--yes", "--json", "-p", "1") as node:
        # When the disk is full, then the job says that it waits
        paused = node.wait_for(lambda event: bool(event.get("pause")))
        assert "space" in paused["pause"].lower()
        assert paused["items"]["failed"] == 0

        # When there is space again, then it goes on by itself
        ballast.unlink()
        assert node.exit_code() == 0
        job_id = node.job_id
    job = open_job(job_id)
    audit(job, expected, files_below(small_disk / "stored"))
    until(lambda: job.status().pause == "", timeout_s=1)
