"""A Redis that forgets, a lease that is lost, a source that goes away: the job ends right, or says that it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest import manifest
from ingest.errors import ConfigError, IngestError, JobError, SourceUnreadable
from ingest.feeder import Feeder
from ingest.items import FileItem
from ingest.job import Job
from ingest.ledger import Kills, State, Tally
from ingest.manifest_parts import Row, write_part
from tests.engine.jobs_by_hand import begin, commit_all, job_over

PATHS = [f"f{number:03}" for number in range(20)]


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A job over twenty files, in batches of five."""
    (tmp_path / "source").mkdir()
    for path in PATHS:
        (tmp_path / "source" / path).write_text(path)
    return job_over(tmp_path)


def feeder_of(job: Job) -> Feeder:
    processors = job.processors()
    return Feeder(job.config, job.ledger, job.queue, processors, job.keys(processors), job.context.grid)


def feed(job: Job) -> None:
    feeder = feeder_of(job)
    while feeder.step():
        pass


def row(key: str) -> Row:
    return Row(key, f"/{key}", 1, None, key, 1, "0" * 64, None, "text/plain", "stored", "n", 1, 1)


def do(job: Job, batch: int, token: str, *keys: str) -> bool:
    """What a node does with a batch."""
    attempt = begin(job, batch)
    write_part(job.store, job.job_id, batch, token, [row(key) for key in keys])
    return job.ledger.commit(batch, Tally({"done": len(keys)}), payload_sha1=attempt.payload_sha1, part=token)


def rows_of(job: Job) -> list[str]:
    return [
        str(found["key"]) for found in manifest.read_manifest(job.store, job.job_id, job.settings.scratch)
    ]


def test_a_batch_that_redis_forgot_is_not_counted(job: Job) -> None:
    feed(job)
    attempt = begin(job, 3)
    job.ledger.client.hset(job.ledger.key(), "batches", "2")

    assert not job.ledger.commit(3, Tally({"done": 5}), payload_sha1=attempt.payload_sha1)
    assert job.ledger.begin(3) is None
    assert job.status().counts.done == 0


def test_a_batch_that_has_other_items_by_now_is_not_counted(job: Job) -> None:
    feed(job)
    attempt = begin(job, 0)
    other = job.ledger.client.hget(job.ledger.key("payloads"), "1")
    assert other is not None
    job.ledger.client.hset(job.ledger.key("payloads"), "0", other)

    assert not job.ledger.commit(0, Tally({"done": 5}), payload_sha1=attempt.payload_sha1)
    assert job.ledger.commit(0, Tally({"done": 5}), payload_sha1=begin(job, 0).payload_sha1)


def test_an_attempt_that_lost_its_lease_leaves_the_other_s_part_alone(job: Job) -> None:
    feed(job)
    slow = begin(job, 0)
    assert do(job, 0, "quick", *PATHS[:5])
    write_part(job.store, job.job_id, 0, "slow", [row("f000")])
    assert not job.ledger.commit(0, Tally({"done": 1}), payload_sha1=slow.payload_sha1, part="slow")
    for batch in (1, 2, 3):
        assert do(job, batch, "t", *PATHS[5 * batch : 5 * batch + 5])

    assert job.complete() is State.COMPLETE
    assert rows_of(job) == PATHS


def test_a_completed_job_that_redis_forgot_is_completed_anew(job: Job) -> None:
    feed(job)
    remembered = job.ledger.client.hgetall(job.ledger.key())
    payload = job.ledger.client.hget(job.ledger.key("payloads"), "0")
    for batch in range(4):
        assert do(job, batch, "first", *PATHS[5 * batch : 5 * batch + 5])
    counted = job.ledger.client.hgetall(job.ledger.key())
    assert job.complete() is State.COMPLETE

    # Redis forgets the end, and that batch 0 was committed
    assert payload is not None
    job.ledger.client.hset(
        job.ledger.key(), mapping={**dict[Any, Any](counted), b"done": b"15", b"committed": b"3"}
    )
    job.ledger.client.hset(job.ledger.key("payloads"), "0", payload)
    job.ledger.client.setbit(job.ledger.key("committed"), 0, 0)
    assert remembered[b"state"] == counted[b"state"] == b"uploading"
    assert do(job, 0, "again", *PATHS[:5])

    assert job.complete() is State.COMPLETE
    assert sorted(rows_of(job)) == PATHS


def test_lost_payloads_are_no_empty_batch(job: Job) -> None:
    feed(job)
    job.ledger.client.delete(job.ledger.key("payloads"))

    with pytest.raises(IngestError, match="Redis has lost the items of batch 0"):
        job.items(0, begin(job, 0).items)


def test_a_job_whose_counts_disagree_is_not_completed(job: Job) -> None:
    feed(job)
    commit_all(job, done=4)

    with pytest.raises(JobError, match="lists 20 items, but 16 done"):
        job.complete()
    assert job.ledger.state() is State.UPLOADING


def test_a_reopened_job_does_not_expire_for_its_age(job: Job) -> None:
    feed(job)
    commit_all(job)
    long_ago_s = job.ledger.now_s() - 100 * 86_400
    job.ledger.client.hset(
        job.ledger.key(), mapping={"created_s": long_ago_s, "reopened_s": job.ledger.now_s()}
    )

    assert not Job(job.job_id, job.settings).expire()
    assert job.ledger.state() is State.UPLOADING


class TestASourceThatGoesAway:
    def test_in_the_middle_is_not_taken_for_its_end(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        feeder = feeder_of(job)
        processor: Any = feeder._processors.path
        real = type(processor).paths

        def cut(self: Any, after: str | None = None) -> Iterator[FileItem]:
            for number, item in enumerate(real(self, after)):
                if number == 7:
                    return
                yield item

        def gone(self: Any) -> None:
            raise ConfigError("the drive is not mounted")

        monkeypatch.setattr(type(processor), "paths", cut)
        monkeypatch.setattr(type(processor), "check", gone)

        with pytest.raises(ConfigError, match="not mounted"):
            feeder.step()
        assert not job.status().counts.enumerated

    def test_between_two_looks_is_an_error(
        self, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "source").mkdir()
        for path in PATHS:
            (tmp_path / "source" / path).write_text(path)
        job = job_over(tmp_path, destination={"url": f"file://{tmp_path}/stored", "key": "{name}"})
        feeder = feeder_of(job)
        processor: Any = feeder._processors.path
        looks: list[str | None] = []
        real: Callable[[Any, str | None], Iterator[FileItem]] = type(processor).paths

        def changing(self: Any, after: str | None = None) -> Iterator[FileItem]:
            looks.append(after)
            if len(looks) == 2:
                (tmp_path / "source" / "f000").unlink()
            return real(self, after)

        monkeypatch.setattr(type(processor), "paths", changing)

        with pytest.raises(SourceUnreadable, match="f000 is gone"):
            feeder.step()
        feed(job)
        assert job.status().counts.items_listed == 19


class TestAnItemInHand:
    def test_of_a_node_that_was_stopped_is_not_blamed(self, job: Job) -> None:
        feed(job)
        begin(job, 0)
        job.ledger.suspects.hold(0, 2, "stopped-node")
        job.ledger.suspects.stopped_by_itself("stopped-node")
        assert begin(job, 0).kills == {}

    def test_of_a_node_that_died_is(self, job: Job) -> None:
        feed(job)
        begin(job, 0)
        job.ledger.suspects.hold(0, 2, "dead-node")
        assert begin(job, 0).kills == {2: Kills(1)}
