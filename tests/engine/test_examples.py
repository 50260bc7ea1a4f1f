"""Every example config does what it says: those over local data unchanged, in a fresh copy of the checkout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import bagit
import pytest

from ingest.ledger import State
from ingest.manifest import read_manifest
from ingest.plugin_loader import installed
from tests.engine.making import create, data, files_below, objects
from tests.s3_servers import S3Server, use_credentials
from tests.ssh_servers import SimulatedTag
from tests.web_servers import nginx_index

EXAMPLES = Path(__file__).parent.parent.parent / "config" / "examples"
ELSEWHERE = ("evidence.json", "hydrophone.json", "s3.json", "web_folder.json", "whale_tag.json")
LOCAL = sorted(path.name for path in EXAMPLES.glob("*.json") if path.name not in ELSEWHERE)


def test_every_built_in_processor_has_an_example() -> None:
    texts = "".join(path.read_text() for path in EXAMPLES.glob("*.json"))
    names = [*installed("path"), *installed("tile")]

    assert [name for name in names if f'"class": "{name}"' not in texts] == []


@pytest.mark.parametrize("name", LOCAL)
def test_an_example_completes(name: str, tmp_path: Path, redis_url: str) -> None:
    checkout = tmp_path / "checkout"
    examples = shutil.copytree(EXAMPLES, checkout / "config" / "examples")
    to = ("--to", str(checkout / "ingest-boss")) if name.startswith("boss-") else ()

    job = create(examples / name, *to)

    status = job.status()
    assert status.state is State.COMPLETE
    assert status.counts.done == status.items_total > 0
    (stored,) = checkout.glob("ingest-*")
    assert len(files_below(stored)) == status.counts.objects


def test_the_example_of_evidence_makes_a_bag(tmp_path: Path, redis_url: str) -> None:
    job = create(EXAMPLES / "evidence.json", "--to", str(tmp_path / "stored"))

    assert job.status().state is State.COMPLETE
    bagit.Bag(str(tmp_path / "stored")).validate()
    assert len([*tmp_path.glob("stored/data/ascmhl/0001_*.mhl")]) == 1


def test_the_s3_example_completes(
    redis_url: str, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_credentials(monkeypatch, rclone_s3)
    bucket = rclone_s3.make_bucket()
    sets = {"url": f"s3://{bucket}/run", "endpoint_url": rclone_s3.endpoint_url, "region": "us-east-1"}

    job = create(
        EXAMPLES / "s3.json",
        *(
            word
            for key, value in sets.items()
            for word in ("--set", f"destination.{key}={json.dumps(value)}")
        ),
    )

    assert job.status().state is State.COMPLETE
    assert len(data(objects(rclone_s3, bucket))) == job.status().counts.objects > 0


def test_the_example_of_a_web_folder_completes(tmp_path: Path, redis_url: str) -> None:
    with nginx_index(tmp_path) as web:
        for path in ("notes.txt", "a.wav", "day/b.csv", "day/c.mseed"):
            (web.root / path).parent.mkdir(exist_ok=True)
            (web.root / path).write_text(path)

        url = f"path_processor.params.url={web.url}"
        job = create(EXAMPLES / "web_folder.json", "--to", str(tmp_path / "stored"), "--set", url)

    assert job.status().state is State.COMPLETE
    stored = files_below(tmp_path / "stored")
    assert stored == {path: path.encode() for path in ("a.wav", "day/b.csv", "day/c.mseed")}
    [row, *_] = read_manifest(job.store, job.job_id, job.settings.scratch)
    assert row["source"] == f"{web.url}a.wav"
    assert dict(row["metadata"]).keys() == {"source_sha256", "source_etag", "source_last_modified"}
    assert dict(row["metadata"])["source_sha256"] == row["sha256"]


def test_the_example_of_a_whale_tag_completes(tag: SimulatedTag, tmp_path: Path, redis_url: str) -> None:
    (tag.data / "dive").mkdir()
    (tag.data / "dive" / "a.raw").write_bytes(b"sound")
    params = {
        "tags": {tag.name: str(tag.address)},
        "key_file": str(tag.user_key),
        "backup_dir": str(tmp_path / "backup"),
    }
    sets = (f"path_processor.params.{name}={json.dumps(value)}" for name, value in params.items())

    example = EXAMPLES / "whale_tag.json"
    job = create(
        example, "--to", str(tmp_path / "stored"), *(word for one in sets for word in ("--set", one))
    )

    assert job.status().state is State.COMPLETE
    stored = files_below(tmp_path / "stored")
    assert stored == {f"raw/{job.context.date}/{tag.name}/dive/a.raw": b"sound"}


def test_the_example_of_a_hydrophone_keeps_files_as_they_are(tmp_path: Path, redis_url: str) -> None:
    folder = "CE02SHBP/LJ01D/HYDBBA106/2019/01/12"
    with nginx_index(tmp_path) as web:
        for name in (
            "OO-HYEA2--YDH-2019-01-12T15:10:00.000000.mseed",
            "addendum/OO-HYEA2--YDH-2019-01-12T15:15:00Z.mseed",
        ):
            (web.root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (web.root / folder / name).write_text(name)

        base = f"path_processor.params.base_url={web.url}"
        as_they_are = ("--set", 'tile_processor={"class": "file"}', "--set", "finishers=[]")
        example = EXAMPLES / "hydrophone.json"
        job = create(example, "--to", str(tmp_path / "stored"), "--set", base, *as_they_are)

    assert job.status().state is State.COMPLETE
    assert len(files_below(tmp_path / "stored" / folder)) == 2
