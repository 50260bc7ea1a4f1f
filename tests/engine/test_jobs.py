"""Jobs from their config to their manifest, run by the real commands."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ingest import manifest
from ingest.ledger import State
from tests.audit import audit, make_files
from tests.cluster import Command, run
from tests.engine.conftest import Invoke
from tests.engine.making import (
    bucket_of,
    create,
    data,
    files_below,
    files_config,
    last_job,
    objects,
    open_job,
    s3_folder,
    said,
)
from tests.needs import require
from tests.s3_servers import S3Server

STATUS_KEYS = {
    "job_id",
    "name",
    "state",
    "items",
    "bytes",
    "objects",
    "node_count",
    "nodes",
    "pause",
    "trouble",
    "destination",
    "created_s",
    "ended_s",
}


def test_a_folder_is_copied_once_into_a_folder(tmp_path: Path, redis_url: str, invoke: Invoke) -> None:
    expected = make_files(tmp_path / "source", 60)
    (tmp_path / "source" / "day-0" / "empty.dat").touch()
    expected["day-0/empty.dat"] = b""
    stored = tmp_path / "stored"
    config = files_config(tmp_path, tmp_path / "source", f"file://{stored}")

    # When it is run
    job = create(config)

    # Then all is stored, and the status says so as it is documented to
    audit(job, expected, files_below(stored))
    (status,) = said(invoke, "status", "-j", job.job_id)
    assert set(status) == STATUS_KEYS
    assert (status["job_id"], status["name"], status["state"]) == (job.job_id, "trial", "complete")
    assert status["items"] == {
        "total": 61,
        "total_is_final": True,
        "done": 61,
        "failed": 0,
        "skipped": 0,
        "blank": 0,
    }
    size_bytes = sum(map(len, expected.values()))
    assert status["bytes"] == {"total": size_bytes, "done": size_bytes, "stored": size_bytes}
    assert status["nodes"] == []
    sums = f".ingest/{job.job_id}/manifest-sha256.txt"
    subprocess.run(["sha256sum", "-c", "--strict", "--quiet", sums], cwd=stored, check=True)
    assert not [*(stored / ".ingest" / job.job_id).glob("parts/*")]

    # and nothing of the work is left in Redis, and the ended job takes nobody
    assert job.queue.waiting() == 0
    assert job.ledger.client.exists(*map(job.ledger.key, ("payloads", "attempts", "in_hand", "uploads"))) == 0
    done = invoke("join", "-j", job.job_id)
    assert done.exit_code == 0
    assert "is complete: there is nothing left to do" in done.stderr

    # When it is run again, then nothing is uploaded
    before = {path: (stored / path).stat().st_mtime_ns for path in expected}
    again = create(config)
    audit(again, expected, files_below(stored))
    counts = again.status().counts
    assert (counts.done, counts.skipped, counts.objects, counts.bytes_stored) == (0, 61, 0, 0)
    assert {path: (stored / path).stat().st_mtime_ns for path in expected} == before

    # and only what the first job stored is its own
    rows = manifest.read_manifest(again.store, again.job_id, again.settings.scratch)
    assert {row["status"] for row in rows} == {"skipped"}
    assert [status["job_id"] for status in said(invoke, "list")] == [again.job_id, job.job_id]

    # When an object is deleted, and one altered to the same size, then verify tells
    (stored / "day-1" / "site 1" / "rec-00001.dat").unlink()
    altered = stored / "day-2" / "site 2" / "rec-00002.dat"
    altered.write_bytes(b"x" * altered.stat().st_size)
    problem, verified = said(invoke, "verify", "-j", job.job_id, code=3)
    assert problem["key"] == "day-1/site 1/rec-00001.dat"
    assert verified["problems"] == 1, "a folder's files have no ETag, so only reading finds the other"
    assert "61 objects compared by size alone: 1 problem\n" in invoke("verify", "-j", job.job_id).stdout
    found = said(invoke, "verify", "-j", job.job_id, "--deep", code=3)
    assert {problem["key"] for problem in found[:-1]} == {
        "day-1/site 1/rec-00001.dat",
        "day-2/site 2/rec-00002.dat",
    }


def test_a_folder_is_copied_once_to_s3(
    tmp_path: Path,
    redis_url: str,
    rclone_s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    invoke: Invoke,
) -> None:
    expected = make_files(tmp_path / "source", 40)
    destination = s3_folder(rclone_s3, monkeypatch)
    bucket = bucket_of(destination)
    config = files_config(tmp_path, tmp_path / "source", destination)

    job = create(config, "--manual-complete")
    assert job.status().state is State.UPLOADED
    assert run("join", "-j", job.job_id).returncode == 0
    assert job.status().state is State.UPLOADED, "it waits for a person's word"
    assert invoke("complete", "-j", job.job_id).exit_code == 0
    audit(job, expected, data(objects(rclone_s3, bucket)))
    assert invoke("complete", "-j", job.job_id).exit_code == 0, "it may be repeated"

    again = create(config)
    audit(again, expected, data(objects(rclone_s3, bucket)))
    counts = again.status().counts
    assert (counts.done, counts.skipped, counts.objects) == (0, 40, 0)

    assert said(invoke, "verify", "-j", job.job_id) == [
        {
            "event": "verified",
            "job_id": job.job_id,
            "objects": 40,
            "problems": 0,
            "failed_items": 0,
            "deep": False,
        }
    ]
    told = invoke("verify", "-j", job.job_id).stdout
    assert told == "40 objects compared by size and ETag: no problems\n"
    client = rclone_s3.client()
    deleted, altered = "day-0/site 0/rec-00000.dat", "day-1/site 1/rec-00001.dat"
    client.delete_object(Bucket=bucket, Key=f"run/{deleted}")
    client.put_object(Bucket=bucket, Key=f"run/{altered}", Body=b"x" * len(expected[altered]))
    client.close()
    for options in ((), ("--deep",)):
        found = said(invoke, "verify", "-j", job.job_id, *options, code=3)
        assert {problem["key"] for problem in found[:-1]} == {deleted, altered}
    told = invoke("verify", "-j", job.job_id).stdout
    assert "40 objects compared by size, 39 of them by ETag too: 2 problems\n" in told


def test_one_that_detaches_leaves_the_rest_to_nodes(tmp_path: Path, redis_url: str, invoke: Invoke) -> None:
    expected = make_files(tmp_path / "source", 90, size_bytes=500)
    config = files_config(
        tmp_path, tmp_path / "source", f"file://{tmp_path}/stored", queue={"batch_items": 5, "max_batches": 4}
    )

    done = run("create", str(config), "--yes", "--detach", "--json")
    assert done.returncode == 0, done.stderr
    job = last_job()
    status = job.status()
    assert (status.state, status.counts.batches, status.counts.enumerated) == (State.UPLOADING, 4, False)
    assert job.queue.known() == {0, 1, 2, 3}
    assert not files_below(tmp_path / "stored")

    with (
        Command("join", "-j", job.job_id, "--json", "-p", "1") as first,
        Command("join", "-j", job.job_id, "--json", "-p", "2") as second,
    ):
        assert (first.exit_code(), second.exit_code()) == (0, 0), first.errors + second.errors
        ended = second.events[-1]
    assert (ended["event"], ended["exit_code"], ended["state"]) == ("ended", 0, "complete")
    audit(job, expected, files_below(tmp_path / "stored"))


def test_a_folder_of_which_nothing_is_taken_is_a_job_that_completes_but_an_empty_one_is_none(
    tmp_path: Path, redis_url: str, invoke: Invoke
) -> None:
    (tmp_path / "source").mkdir()
    config = files_config(tmp_path, tmp_path / "source", f"file://{tmp_path}/stored")
    refused = invoke("create", config, "--yes")
    assert refused.exit_code == 2
    assert "is its drive mounted?" in refused.stderr
    (tmp_path / "source" / ".hidden").touch()

    job = create(config)

    assert job.status().state is State.COMPLETE
    assert [*manifest.read_manifest(job.store, job.job_id, job.settings.scratch)] == []


class TestTiles:
    """Sections of 100 x 70 pixels, cut into tiles of 32 x 24: the last column and row are padded."""

    SIZE = (100, 70)

    def stack(self, folder: Path, name: str) -> list[NDArray[np.uint8]]:
        folder.mkdir()
        dice = np.random.default_rng(1)
        sections = [dice.integers(0, 255, self.SIZE[::-1], dtype=np.uint8) for _ in range(3)]
        for z, section in enumerate(sections):
            Image.fromarray(section).save(folder / name.format(z=z))
        return sections

    def crops(self, sections: list[NDArray[np.uint8]], key: str) -> dict[str, NDArray[np.uint8]]:
        padded = [np.pad(section, ((0, 2), (0, 28))) for section in sections]
        return {
            key.format(x=x, y=y, z=z): padded[z][24 * y : 24 * y + 24, 32 * x : 32 * x + 32]
            for z in range(3)
            for y in range(3)
            for x in range(4)
        }

    def check(self, stored: dict[str, bytes], crops: dict[str, NDArray[np.uint8]]) -> None:
        assert sorted(stored) == sorted(crops)
        for key, crop in crops.items():
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored[key]))), crop)

    @property
    def job(self) -> dict[str, Any]:
        return {
            "type": "tiles",
            "extent": {"x": [0, 100], "y": [0, 70], "z": [0, 3]},
            "tile_size": {"x": 32, "y": 24},
        }

    def test_equal_the_crops_of_their_sections(
        self, tmp_path: Path, redis_url: str, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sections = self.stack(tmp_path / "stack", "sec_{z:03}.png")
        destination = s3_folder(rclone_s3, monkeypatch)
        params = {"root_dir": str(tmp_path / "stack"), "extension": "png", "base_filename": "sec_<p:3>"}
        config = files_config(
            tmp_path,
            tmp_path,
            destination,
            ingest_job=self.job,
            path_processor={"class": "z_stack", "params": params},
            tile_processor={"class": "image", "params": {"format": "png"}},
            queue={"batch_items": 7},
        )

        job = create(config)

        stored = data(objects(rclone_s3, bucket_of(destination)))
        self.check(stored, self.crops(sections, "0/{z}/{y}_{x}.png"))
        audit(job, stored, stored)
        assert job.status().counts.batches == 6

    def test_of_a_section_that_is_missing_fail_alone(
        self, tmp_path: Path, redis_url: str, invoke: Invoke
    ) -> None:
        """The job was refused: it was said that two items have one key."""
        self.stack(tmp_path / "stack", "{z}.png")
        (tmp_path / "stack" / "1.png").unlink()
        params = {"root_dir": str(tmp_path / "stack"), "extension": "png", "base_filename": "<>"}
        config = files_config(
            tmp_path,
            tmp_path,
            {"url": f"file://{tmp_path}/stored"},
            ingest_job=self.job,
            path_processor={"class": "z_stack", "params": params},
            tile_processor={"class": "image"},
        )

        done = invoke("create", config, "--yes")

        assert done.exit_code == 3, done.output
        assert "24 items stored" in done.stdout
        assert "12 failed" in done.stdout

    def test_of_boss_s_own_config_are_the_same(
        self, tmp_path: Path, redis_url: str, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = importlib.util.find_spec("ingestclient")
        require(found, "boss-ingest is not installed (`pip install -e .[dev]`)")
        assert found is not None
        assert found.submodule_search_locations is not None
        example = Path(found.submodule_search_locations[0]) / "configs" / "boss-v0.1-zStack-example.json"
        config = json.loads(example.read_text())
        sections = self.stack(tmp_path / "stack", "{z}_my_stack_section000.png")
        for z in range(3):
            name = f"{3253 + z}_my_stack_section{z:03}.png"
            (tmp_path / "stack" / f"{z}_my_stack_section000.png").rename(tmp_path / "stack" / name)
        config["client"]["path_processor"]["params"]["root_dir"] = "stack"
        config["ingest_job"]["extent"] |= {"x": [0, 100], "y": [0, 70], "z": [0, 3]}
        config["ingest_job"]["tile_size"] |= {"x": 32, "y": 24}
        destination = s3_folder(rclone_s3, monkeypatch)
        (tmp_path / "boss.json").write_text(json.dumps(config))
        endpoint = ("--set", f"destination.endpoint_url={rclone_s3.endpoint_url}")
        region = ("--set", "destination.region=us-east-1")

        job = create(tmp_path / "boss.json", "--to", destination["url"], *endpoint, *region)

        stored = data(objects(rclone_s3, bucket_of(destination)))
        self.check(stored, self.crops(sections, "my_col_1/my_exp_1/my_ch_1/0/0/{z}/{y}_{x}.png"))
        assert open_job(job.job_id).status().state is State.COMPLETE
