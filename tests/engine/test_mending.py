"""Manifest parts that are lost or garbled in the destination are found, and their batches done again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.job import Job
from ingest.ledger import Part, State
from ingest.manifest import ManifestDamaged
from ingest.workers import tasks
from ingest.workers.watch import Watch
from tests.audit import audit, make_files
from tests.engine.jobs_by_hand import feed, job_over, work
from tests.engine.making import files_below

Damage = Callable[[Path], None]


def truncate(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:50])


def garble(part: Path) -> None:
    body = bytearray(part.read_bytes())
    body[len(body) // 2] ^= 1
    part.write_bytes(body)


DAMAGES: list[Damage] = [truncate, garble, Path.unlink]


@pytest.fixture(autouse=True)
def no_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes have no orders but the test's."""
    monkeypatch.setattr(Watch, "of", classmethod(lambda cls, presence, node, process: cls()))
    monkeypatch.setattr(tasks, "TRY_AGAIN_AFTER_S", 0.01)


def part_of(job: Job, folder: Path, batch: int) -> Path:
    (path,) = (folder / "stored" / ".ingest" / job.job_id / "parts").glob(f"{batch:010d}-*")
    return path


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_made_anew(tmp_path: Path, redis_url: str, damage: Damage) -> None:
    expected = make_files(tmp_path / "source", 33)
    job = job_over(tmp_path)
    feed(job)
    work(job)
    for batch in (1, 4):
        damage(part_of(job, tmp_path, batch))
    before = job.status().counts

    # When the job is completed, then the batches are taken back with all they counted
    assert job.complete() is State.UPLOADING
    counts = job.status().counts
    assert counts.committed == before.committed - 2
    assert counts.done == before.done - 10
    assert counts.bytes_done < before.bytes_done
    assert "2 manifest parts were lost or garbled" in job.status().trouble
    assert job.queue.known() >= {1, 4}
    assert [len(job.ledger.payload_items(batch) or ()) for batch in (1, 4)] == [5, 5]

    # and when they are done again, all is as it was
    work(job)
    assert job.complete() is State.COMPLETE
    audit(job, expected, files_below(tmp_path / "stored"))
    after = job.status().counts
    assert (after.done + after.skipped, after.bytes_done) == (33, before.bytes_done)
    assert job.status().trouble == ""


def test_failed_items_of_a_damaged_part_are_not_counted_twice(tmp_path: Path, redis_url: str) -> None:
    expected = make_files(tmp_path / "source", 20)
    job = job_over(tmp_path)
    feed(job)
    bad = sorted(expected)[7]
    (tmp_path / "source" / bad).unlink()
    work(job)
    assert job.status().counts.failed == 1
    truncate(part_of(job, tmp_path, 1))

    with pytest.raises(ManifestDamaged, match="lists other files than before"):
        job.complete()
    assert job.ledger.state() is State.COMPLETING
    (tmp_path / "source" / bad).write_bytes(expected[bad])
    assert job.complete() is State.UPLOADING
    assert list(job.failures()) == []
    assert job.status().counts.failed == 0

    work(job)
    assert job.complete() is State.COMPLETE
    audit(job, expected, files_below(tmp_path / "stored"))


def test_a_part_of_items_that_were_tried_again_is_made_anew(tmp_path: Path, redis_url: str) -> None:
    expected = make_files(tmp_path / "source", 20)
    job = job_over(tmp_path)
    feed(job)
    gone = [sorted(expected)[index] for index in (2, 9, 16)]
    for path in gone:
        (tmp_path / "source" / path).unlink()
    work(job)
    assert job.complete() is State.FAILED
    for path in gone:
        (tmp_path / "source" / path).write_bytes(expected[path])
    assert job.retry() == 3
    work(job)
    garble(part_of(job, tmp_path, 4))

    assert job.complete() is State.UPLOADING
    work(job)
    assert job.complete() is State.COMPLETE
    audit(job, expected, files_below(tmp_path / "stored"))
    assert job.ledger.client.exists(job.ledger.key("payloads")) == 0


def test_a_manifest_lost_after_a_retry_counts_nothing_twice(tmp_path: Path, redis_url: str) -> None:
    expected = make_files(tmp_path / "source", 10)
    job = job_over(tmp_path)
    feed(job)
    gone = tmp_path / "source" / sorted(expected)[3]
    body = gone.read_bytes()
    gone.unlink()
    work(job)
    assert job.complete() is State.FAILED
    gone.write_bytes(body)
    assert job.retry() == 1
    manifest = tmp_path / "stored" / ".ingest" / job.job_id / "manifest.parquet"
    copy = manifest.read_bytes()
    manifest.unlink()
    work(job)
    before = job.status().counts

    # When it is completed, then it says what is lost, and takes nothing back
    for _ in range(2):
        with pytest.raises(
            ManifestDamaged, match=r"manifest\.parquet, which the job had before it was retried"
        ):
            job.complete()
        assert job.ledger.state() is State.COMPLETING
        assert job.status().counts == before
    payloads = {0: b"", 1: b"", 2: b""}
    assert not job.ledger.undo(payloads, at_most=9), "it was reopened after somebody looked"
    assert job.status().counts == before

    # and when it is put back, it is as if nothing had happened
    manifest.write_bytes(copy)
    assert job.complete() is State.COMPLETE
    audit(job, expected, files_below(tmp_path / "stored"))
    assert (before.done, before.skipped, before.failed) == (10, 0, 0)


def test_a_store_that_garbles_every_time_is_given_up(tmp_path: Path, redis_url: str) -> None:
    make_files(tmp_path / "source", 6)
    job = job_over(tmp_path)
    feed(job)
    work(job)
    for _ in range(3):
        garble(part_of(job, tmp_path, 0))
        assert job.complete() is State.UPLOADING
        for old in (tmp_path / "stored" / ".ingest" / job.job_id / "parts").glob("0000000000-*"):
            old.unlink()
        work(job)
    garble(part_of(job, tmp_path, 0))

    with pytest.raises(ManifestDamaged, match="0000000000"):
        job.complete()
    assert job.ledger.state() is State.COMPLETING


def test_a_part_says_little_of_a_batch(tmp_path: Path, redis_url: str) -> None:
    """A job may have millions of batches."""
    make_files(tmp_path / "source", 20)
    job = job_over(tmp_path)
    feed(job)
    work(job)
    client: Any = job.ledger.client
    kept = client.hgetall(job.ledger.key("parts"))
    assert all(len(text) < 250 for text in kept.values())
    assert all(Part.decode(text).encode().encode() == text for text in kept.values())
    assert job.ledger.client.exists(job.ledger.key("payloads")) == 0
