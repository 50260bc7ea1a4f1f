from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bagit
import pytest

from ingest.errors import ConfigError, IngestError
from ingest.ledger import State
from ingest.manifest import read_manifest
from tests.plugins.conftest import Place
from tests.stores.helpers import put
from tests.whole_jobs import do, done, download, job_of

ODD_NAMES = (
    "a b",
    "é",
    "e\u0301",
    "100%",
    "%41",
    "new\nline",
    "tab\there",
    "'quote\"",
    "#hash",
    "*star",
    "-",
    "日本",
)


def bag(**params: Any) -> list[dict[str, Any]]:
    """The finisher in a config."""
    return [{"class": "bagit", "params": params}]


def validated(folder: Path) -> bagit.Bag:
    """The bag in a folder, which the package of the Library of Congress finds valid."""
    found = bagit.Bag(str(folder))
    found.validate()
    return found


def manifest_of(folder: Path) -> dict[str, str]:
    """Path → SHA-256 as a manifest's lines have it."""
    lines = (folder / "manifest-sha256.txt").read_text().splitlines()
    return {line.partition("  ")[2]: line.partition("  ")[0] for line in lines}


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_is_stored_is_a_valid_bag(tmp_path: Path, place: Place) -> None:
    files = {"a.txt": b"1", "deep/er/b": b"22", "empty": b"", "big": os.urandom(6 << 20)}

    job = done(tmp_path, files, place("data/{path}"), finishers=bag(info={"Contact-Name": "A. Researcher"}))

    copy = download(job, tmp_path / "copy")
    found = validated(copy)
    assert manifest_of(copy) == {f"data/{name}": sha256_of(content) for name, content in files.items()}
    assert found.version_info == (1, 0)
    assert found.info["Payload-Oxum"] == f"{sum(map(len, files.values()))}.4"
    assert found.info["Contact-Name"] == "A. Researcher"
    assert found.info["Ingest-Job"] == job.job_id
    assert found.info["Bagging-Date"] == job.context.date
    # Each tag file is in the tag manifest, and the manifests in .ingest/ disturb nothing
    tags = (copy / "tagmanifest-sha256.txt").read_text()
    assert [line.split("  ")[1] for line in tags.splitlines()] == [
        "bag-info.txt",
        "bagit.txt",
        "manifest-sha256.txt",
    ]
    for sums in (
        "manifest-sha256.txt",
        "tagmanifest-sha256.txt",
        f".ingest/{job.job_id}/manifest-sha256.txt",
    ):
        subprocess.run(["sha256sum", "-c", "--strict", "--quiet", sums], cwd=copy, check=True)


def test_a_bag_that_was_changed_is_found_out(tmp_path: Path, place: Place) -> None:
    """So the test above says something."""
    job = done(tmp_path, {"a": b"1", "b": b"2"}, place("data/{path}"), finishers=bag())
    changes: list[Callable[[Path], object]] = [
        lambda copy: (copy / "data/a").write_bytes(b"x"),
        lambda copy: (copy / "data/b").unlink(),
        lambda copy: (copy / "data/c").touch(),
        lambda copy: (copy / "bag-info.txt").write_text("Payload-Oxum: 2.2\n"),
    ]
    for number, change in enumerate(changes):
        copy = download(job, tmp_path / f"copy-{number}")
        validated(copy)
        change(copy)
        with pytest.raises(bagit.BagValidationError):
            validated(copy)


def test_odd_names_are_read_by_the_package(tmp_path: Path, place: Place) -> None:
    files = {f"d/{name}": name.encode() for name in ODD_NAMES}

    job = done(tmp_path, files, place("data/{path}"), finishers=bag())

    copy = download(job, tmp_path / "copy")
    found = validated(copy)
    assert "data/d/new%0Aline" in (copy / "manifest-sha256.txt").read_text()
    # Version 1.0 would have a percent sign written in a way that the package does not read
    assert found.version_info == (0, 97)
    assert sorted(found.payload_entries()) == sorted(f"data/{name}" for name in files)


def test_duplicates_are_named_and_the_bag_is_valid(tmp_path: Path, place: Place) -> None:
    files = {"a": b"same", "b": b"same", "c": b"other", "tab\tline\n": b"same"}

    job = done(tmp_path, files, place("data/{path}", dedupe="sha256"), finishers=bag())

    copy = download(job, tmp_path / "copy")
    found = validated(copy)
    assert found.info["Payload-Oxum"] == "9.2"
    assert sorted(manifest_of(copy).values()) == sorted([sha256_of(b"same"), sha256_of(b"other")])
    header, *lines = (copy / "duplicates.tsv").read_text().splitlines()
    assert header == "sha256\tpath\tduplicate_of"
    prefix = job.config.destination.prefix
    for line in lines:
        sha256, path, duplicate_of = line.split("\t")
        assert path in {"data/a", "data/b", "data/tab%09line%0A"}
        assert manifest_of(copy)[duplicate_of.removeprefix(prefix).replace("%09", "\t")] == sha256
    assert len(lines) == 2
    assert "duplicates.tsv" in (copy / "tagmanifest-sha256.txt").read_text()


def test_a_job_of_duplicates_alone_makes_no_bag(
    tmp_path: Path, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    first = done(
        tmp_path, {"a": b"1"}, place("one/data/{path}", dedupe="sha256"), finishers=bag(folder="one")
    )

    second = done(
        tmp_path, {"b": b"1"}, place("two/data/{path}", dedupe="sha256"), finishers=bag(folder="two")
    )

    assert "no bag is made in 'two/'" in caplog.text
    copy = download(second, tmp_path / "copy")
    assert not (copy / "two").exists()
    validated(copy / "one")
    assert first.ledger.state() is second.ledger.state() is State.COMPLETE


def test_each_folder_that_the_keys_make_is_a_bag(tmp_path: Path, place: Place) -> None:
    files = {"x.raw": b"1", "x.csv": b"2", "y.raw": b"33"}

    job = done(tmp_path, files, place("raw/{stem}/data/{path}"), finishers=bag(folder="raw/{stem}"))

    copy = download(job, tmp_path / "copy")
    assert validated(copy / "raw/x").info["Payload-Oxum"] == "2.2"
    assert validated(copy / "raw/y").info["Payload-Oxum"] == "2.1"


def test_what_others_stored_in_the_folder_is_part_of_the_bag(tmp_path: Path, place: Place) -> None:
    done(tmp_path, {"a": b"1", "b": b"2"}, place("data/{path}"), finishers=bag())
    second = job_of(tmp_path, {"a": b"1", "c": b"3"}, place("data/{path}"), finishers=bag())
    put(second.store, "data/of another tool", b"4444")

    do(second)

    assert second.complete() is State.COMPLETE
    copy = download(second, tmp_path / "copy")
    assert validated(copy).info["Payload-Oxum"] == "7.4"
    assert validated(copy).info["Ingest-Job"] == second.job_id


def test_failed_items_are_counted_in_it(tmp_path: Path, place: Place) -> None:
    job = job_of(tmp_path, {"a": b"1", "b": b"2"}, place("data/{path}"), finishers=bag())
    put(job.store, "data/b", b"other")

    do(job)

    assert job.complete() is State.FAILED
    found = validated(download(job, tmp_path / "copy"))
    assert found.info["Ingest-Failed-Items"] == "1"
    assert found.info["Payload-Oxum"] == "6.2", "what is there under the failed item's key is in the folder"


def test_no_bag_is_made_of_what_is_not_there_any_more(tmp_path: Path, place: Place) -> None:
    job = job_of(tmp_path, {"a": b"1", "b": b"2"}, place("data/{path}"), finishers=bag())
    do(job)
    job.store.delete(["data/b"])

    with pytest.raises(IngestError, match="1 objects of the manifest are not in 'data/' any more"):
        job.complete()

    put(job.store, "data/b", b"22")
    with pytest.raises(IngestError, match="has 2 bytes; 1 were stored"):
        job.complete()
    put(job.store, "data/b", b"2")
    assert job.complete() is State.COMPLETE
    validated(download(job, tmp_path / "copy"))
    rows = read_manifest(job.store, job.job_id, job.settings.scratch)
    assert sorted(row["key"] for row in rows) == ["data/a", "data/b"]


class TestParameters:
    @pytest.mark.parametrize(
        ("key", "folder", "reason"),
        [
            (None, "", "keys must begin with 'data/', and destination.key is '{path}'"),
            ("raw/{path}", "", "keys must begin with 'data/'"),
            ("raw/{job}/{path}", "raw/{job}", "keys must begin with 'raw/{job}/data/'"),
            ("{path}/data/x", "{path}", "has {path}, and so is another for each file"),
        ],
    )
    def test_a_job_whose_keys_lie_elsewhere_is_refused(
        self, tmp_path: Path, redis_url: str, key: str | None, folder: str, reason: str
    ) -> None:
        destination = {"url": f"file://{tmp_path}/bucket", "key": key}
        with pytest.raises(ConfigError) as refused:
            job_of(tmp_path, {"a": b"1"}, destination, finishers=bag(folder=folder))
        assert reason in str(refused.value)

    @pytest.mark.parametrize("info", [{"Payload-Oxum": "1.1"}, {"a:b": "c"}, {"Contact": "two\nlines"}])
    def test_lines_that_are_none_are_refused(
        self, tmp_path: Path, redis_url: str, info: dict[str, str]
    ) -> None:
        destination = {"url": f"file://{tmp_path}/bucket", "key": "data/{path}"}
        with pytest.raises(ConfigError, match=r"finishers\.0\.params\.info"):
            job_of(tmp_path, {"a": b"1"}, destination, finishers=bag(info=info))
