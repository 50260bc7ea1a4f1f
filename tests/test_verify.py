from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import verify as verify_module
from ingest.cli import main
from ingest.errors import JobError, ObjectMissing
from ingest.job import Job
from ingest.ledger import State, Tally
from ingest.manifest import write_part
from ingest.stores.base import ObjectInfo
from ingest.stores.local import LocalStore
from ingest.stores.wrapping import WrappedStore
from ingest.verify import listed, verify
from tests.engine.jobs_by_hand import feed, job_over, work
from tests.stores.helpers import meta_of, put
from tests.test_manifest import row
from tests.workers.making import local_store


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


def test_failed_items_and_the_manifest_from_before_they_were_tried_again_are_told(
    tmp_path: Path, redis_url: str
) -> None:
    # Given a job of which one item failed
    job = job_over(tmp_path)

    def told(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["verify", "-j", job.job_id, *options])
        return done.exit_code, done.output

    for name in ("a", "b"):
        (tmp_path / "source" / name).write_bytes(name.encode())
    (tmp_path / "stored" / "a").write_bytes(b"another")
    feed(job)
    work(job)
    assert job.complete() is State.FAILED

    # Then what is stored is right, and that is not all
    assert told() == (
        3,
        "1 object compared by size alone: no problems\n"
        f"1 item failed and not stored: ingest failures -j {job.job_id}\n",
    )
    assert '"problems": 0, "failed_items": 1' in told("--json", "--deep")[1]

    # When it is tried again, and the manifest from before is put back over the new one
    manifest = tmp_path / "stored" / ".ingest" / job.job_id / "manifest.parquet"
    before = manifest.read_bytes()
    (tmp_path / "stored" / "a").unlink()
    job.retry()
    work(job)
    assert job.complete() is State.COMPLETE
    assert told() == (0, "2 objects compared by size alone: no problems\n")
    manifest.write_bytes(before)

    # Then the items that it has not are not passed over
    code, output = told()
    assert code == 6
    assert "has 1 of the job's 2 batches" in output


class CountingStore(WrappedStore):
    """Counts what it lists."""

    seen = 0

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        for info in self._store.list(prefix, after=after):
            self.seen += 1
            yield info


class TestListing:
    @pytest.mark.parametrize("passed_over", [1, 3, 1000])
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
    @given(st.data())
    def test_finds_what_is_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passed_over: int, data: st.DataObject
    ) -> None:
        monkeypatch.setattr(verify_module, "PASSED_OVER", passed_over)
        is_new = not (tmp_path / "many").exists()
        store = local_store(tmp_path / "many")
        names = [
            f"{folder}{name}" for folder in ("", "a/", "a/b/", "b.c/") for name in ("0", "1~", "z.", "\u00e9")
        ]
        for name in names if is_new else ():
            put(store, name)
        wanted = data.draw(st.sets(st.sampled_from([*names, "0a", "a/none", "zz"])))

        assert listed(store, wanted).keys() == wanted & set(names)

    def test_looks_at_little_else(self, tmp_path: Path) -> None:
        folder = tmp_path / "many"
        store = CountingStore(local_store(folder))
        for number in range(5000):
            (folder / f"{number:04}").touch()

        assert len(listed(store, {"0100", "0101", "0105", "4000"})) == 4
        assert store.seen < 1100


def test_one_that_is_closed_reads_no_further(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C waited until sixteen objects were read to their ends."""

    def endless(store: LocalStore, key: str) -> Iterator[bytes]:
        while key != "0/k0":
            time.sleep(0.01)
            yield b"x"

    found = LocalStore.read
    monkeypatch.setattr(
        LocalStore, "read", lambda store, key: (found if key.startswith(".ingest") else endless)(store, key)
    )
    findings = verify(job, deep=True)
    assert next(findings).key == "0/k0"

    began_s = time.monotonic()
    findings.close()
    assert time.monotonic() - began_s < 5
