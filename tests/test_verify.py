from __future__ import annotations

from pathlib import Path

import pytest

from ingest import verify as verify_module
from ingest.errors import JobError, ObjectMissing
from ingest.job import Job
from ingest.ledger import State, Tally
from ingest.manifest import write_part
from ingest.verify import verify
from tests.engine.jobs_by_hand import feed, job_over
from tests.stores.helpers import meta_of
from tests.test_manifest import row


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A completed job of thirty objects in three folders."""
    job = job_over(tmp_path)
    rows = []
    for number in range(30):
        body = str(number).encode()
        key = f"{number % 3}/k{number}"
        job.store.put(key, body, meta_of(body))
        rows.append(row(number, key=key))
    write_part(job.store, job.job_id, 0, "t", rows)
    job.ledger.feed(0, [b""], items=30, size_bytes=0, cursor="", last=True)
    job.ledger.commit(0, Tally({"done": 30}), part="t")
    job.complete()
    return job


def problems(job: Job, *, deep: bool) -> dict[str, str]:
    findings = [*verify(job, deep=deep)]
    assert len(findings) == 30
    return {finding.key: finding.problem for finding in findings if finding.problem}


@pytest.mark.parametrize("rows_at_once", [7, 10_000])
def test_what_is_missing_or_of_another_size_is_found(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(verify_module, "ROWS_AT_ONCE", rows_at_once)
    assert problems(job, deep=False) == problems(job, deep=True) == {}
    stored = tmp_path / "stored"
    (stored / "0/k0").unlink()
    (stored / "1/k10").write_bytes(b"longer")
    (stored / "2/k20").write_bytes(b"02")
    (stored / "1/other").write_bytes(b"nobody's business")

    assert problems(job, deep=False) == {"0/k0": "is missing", "1/k10": "has 6 bytes; 2 were stored"}
    deep = problems(job, deep=True)
    assert sorted(deep) == ["0/k0", "1/k10", "2/k20"]
    assert "has other content: 2 bytes" in deep["2/k20"]


def test_a_job_without_a_manifest_is_told(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / ".hidden").touch()
    job = job_over(tmp_path)
    with pytest.raises(JobError, match="is preparing: only a completed job"):
        next(verify(job, deep=False))
    feed(job)
    assert job.complete() is State.COMPLETE
    job.store.delete([f".ingest/{job.job_id}/manifest.parquet"])
    with pytest.raises(ObjectMissing, match="no manifest"):
        next(verify(job, deep=False))
