"""What stays when a job is cancelled with all that it stored, as it is not that job's alone any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest.errors import IngestError, JobError
from ingest.ledger import State
from ingest.verify import verify
from tests.engine.jobs_by_hand import feed, job_over, work
from tests.engine.making import s3_folder
from tests.stores.helpers import meta_of


@pytest.fixture(params=["folder", "rclone_s3", "moto_s3"])
def destination(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A folder, and S3 on servers that keep metadata."""
    if request.param == "folder":
        return {"url": f"file://{tmp_path}/stored"}
    return s3_folder(request.getfixturevalue(request.param), monkeypatch)


def write(folder: Path, **files: bytes) -> None:
    for name, content in files.items():
        (folder / "source" / name).write_bytes(content)


def test_what_other_jobs_wrote_or_found_since_is_not_deleted(
    tmp_path: Path, destination: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    # Given a job that waits, a second that wrote one of its objects anew, and a third that found another
    first = job_over(tmp_path, destination=destination, manual_complete=True)
    write(tmp_path, a=b"alone", b=b"before", c=b"found", d=b"by hand")
    feed(first)
    work(first)
    (tmp_path / "source" / "a").unlink()
    (tmp_path / "source" / "d").unlink()
    write(tmp_path, b=b"after!")
    (tmp_path / "source" / "c").rename(tmp_path / "c")
    second = job_over(tmp_path, destination={**destination, "on_existing": "overwrite"})
    feed(second)
    work(second)
    assert second.complete() is State.COMPLETE
    (tmp_path / "c").rename(tmp_path / "source" / "c")
    third = job_over(tmp_path, destination=destination)
    feed(third)
    work(third)
    assert third.complete() is State.COMPLETE
    assert third.status().counts.skipped == 2
    first.store.put("d", b"another", meta_of(b"another"))

    # When the first is cancelled
    deleted = first.cancel(delete_uploaded=True)

    # Then only what is its own alone goes, and it says why the others stay
    assert deleted == 1
    assert {info.key for info in first.store.list()} == {"b", "c", "d"}
    assert [found.problem for job in (second, third) for found in verify(job, deep=True)] == ["", "", ""]
    assert (
        f"1 objects that job {first.job_id} stored stay: they are in the manifests of other jobs"
        in caplog.text
    )
    assert third.job_id in caplog.text
    assert "2 objects that job" in caplog.text


def test_a_manifest_that_cannot_be_read_may_name_them(tmp_path: Path, redis_url: str) -> None:
    first = job_over(tmp_path)
    write(tmp_path, a=b"alone")
    feed(first)
    work(first)
    damaged = tmp_path / "stored" / ".ingest" / "abcdefgh" / "manifest.parquet"
    damaged.parent.mkdir()
    damaged.write_bytes(b"PAR1")

    with pytest.raises(IngestError, match=r"abcdefgh/manifest\.parquet is truncated"):
        first.cancel(delete_uploaded=True)
    assert (tmp_path / "stored" / "a").exists()
    damaged.unlink()
    assert first.cancel(delete_uploaded=True) == 1


def test_nothing_is_deleted_while_another_job_may_find_it(
    tmp_path: Path, destination: dict[str, Any]
) -> None:
    first = job_over(tmp_path, destination=destination)
    write(tmp_path, a=b"alone")
    feed(first)
    work(first)
    second = job_over(tmp_path, destination=destination)

    with pytest.raises(JobError, match=f"job {second.job_id} is preparing below .*, and may count on"):
        first.cancel(delete_uploaded=True)
    assert (first.ledger.state(), {info.key for info in first.store.list()}) == (State.UPLOADING, {"a"})

    feed(second)
    work(second)
    second.cancel()
    assert first.cancel(delete_uploaded=True) == 0, "the other has found it"
    assert {info.key for info in first.store.list()} == {"a"}
