"""A job that is run again over a folder that grew, and reads only what is new: ``upload.reread`` is false."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from ingest import manifest
from ingest.config import Settings
from ingest.job import Job
from ingest.workers import known_files
from ingest.workers.known_files import FileState, Known, KnownFiles
from tests.audit import audit, make_files
from tests.engine.conftest import Invoke
from tests.engine.making import MIB, bucket_of, create, data, files_config, objects, s3_folder
from tests.engine.test_refusals import refused
from tests.s3_servers import S3Server

MARK = "5a" * 32


@pytest.fixture(params=["rclone_s3", "moto_s3"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each of the S3 servers."""
    found: S3Server = request.getfixturevalue(request.param)
    return found


def column(job: Job, name: str) -> dict[str, str]:
    """What a job's manifest has in a column, such as ``sha256``, for each of its files."""
    rows = manifest.read_manifest(job.store, job.job_id, job.settings.scratch)
    return {row["item"]: row[name] for row in rows}


def know_by_mark(root: Path, etags: Mapping[str, str]) -> None:
    """Let this machine know files as if it had read them when they were at rest, each with a SHA-256 of another.

    Only what is taken from there can have it.
    """
    with closing(KnownFiles(Settings.load().state_dir)) as known:
        for name, etag in etags.items():
            known.note(FileState.of(str(root / name)), Known(MARK, etag, {}))
        known.save()


def test_only_what_is_new_is_read(
    tmp_path: Path, redis_url: str, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given files, one of them large, that are stored, and were read when they had lain there for a while
    root = tmp_path / "source"
    expected = make_files(root, 30) | {"large.bin": os.urandom(6 * MIB)}
    (root / "large.bin").write_bytes(expected["large.bin"])
    destination = s3_folder(server, monkeypatch)
    upload = {"reread": False, "multipart_threshold_bytes": 5 * MIB, "part_size_bytes": 5 * MIB}
    config = files_config(tmp_path, root, destination, upload=upload)
    first = create(config)
    audit(first, expected, data(objects(server, bucket_of(destination))))
    kept = column(first, "sha256")
    monkeypatch.setattr(known_files, "AT_REST_NS", 0)
    know_by_mark(root, column(first, "etag"))

    # When one is added, one written to without a trace in its size and time of modification, and it is run again
    (root / "new.bin").write_bytes(b"new")
    (root / "large.bin").touch()
    changed = root / next(name for name in expected if name != "large.bin")
    before = changed.stat()
    changed.write_bytes(b"x" * before.st_size)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    name = changed.relative_to(root).as_posix()
    again = create(config, expect=3)

    # Then those three are read, and no other is
    counts = again.status().counts
    assert (counts.done, counts.skipped, counts.failed) == (1, 30, 1)
    assert [(failure.item.name, failure.error) for failure in again.failures()] == [(name, "KeyConflict")]
    found = column(again, "sha256")
    assert {item for item, sha256 in found.items() if sha256 != MARK} == {"new.bin", "large.bin"}
    assert found["large.bin"] == kept["large.bin"]


@pytest.mark.parametrize(
    ("on_existing", "place", "said"),
    [("overwrite", "error", "on_existing 'skip' only"), ("skip", "upload.reread", "its ETags are not MD5s")],
)
def test_it_is_refused_where_it_could_not_be(
    tmp_path: Path, redis_url: str, invoke: Invoke, on_existing: str, place: str, said: str
) -> None:
    make_files(tmp_path / "source", 3)
    destination = {"url": f"file://{tmp_path}/stored", "on_existing": on_existing}
    answer = refused(
        invoke, files_config(tmp_path, tmp_path / "source", destination, upload={"reread": False})
    )
    assert place in answer
    assert said in answer
