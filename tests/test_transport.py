"""Leases are timed by Redis, whatever the nodes' clocks say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.job import Job
from ingest.queue import make_app, queue_name
from ingest.transport import broker_url
from tests.engine.jobs_by_hand import job_over
from tests.engine.making import until

HOUR_S = 3600.0


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A job with one batch in its queue."""
    job = job_over(tmp_path)
    job.queue.publish([7])
    return job


@contextmanager
def consumer(job: Job, lease_s: float) -> Iterator[Any]:
    """One that takes messages from the job's queue, as a node does."""
    app = make_app(job.ledger.url, job.job_id, lease_s)
    with app.connection_for_read() as connection, connection.SimpleQueue(app.conf.task_queues[0]) as queue:
        yield queue


def scores(job: Job) -> list[float]:
    client: Any = job.ledger.client
    found = client.zrange(f"{queue_name(job.job_id)}:unacked_index", 0, -1, withscores=True)
    return [score for _, score in found]


def redis_now_s(job: Job) -> float:
    client: Any = job.ledger.client
    seconds, micros = client.time()
    return float(seconds + micros / 1e6)


@pytest.mark.parametrize("off_s", [-5 * HOUR_S, 0, 5 * HOUR_S])
def test_a_lease_is_stamped_by_redis(job: Job, monkeypatch: pytest.MonkeyPatch, off_s: float) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + off_s)

    with consumer(job, 60) as queue:
        message = queue.get(timeout=5)
        (score,) = scores(job)
        assert abs(score - redis_now_s(job)) < 30

        # and whoever looks with a clock that is hours off does not take it for run out
        with consumer(job, 60) as other:
            other.channel.qos.restore_visible()
            assert job.queue.waiting() == 0
        message.ack()


def test_a_renewed_lease_is_as_new_and_one_that_is_lost_stays_so(job: Job) -> None:
    with consumer(job, 60) as queue:
        message = queue.get(timeout=5)
        index = f"{queue_name(job.job_id)}:unacked_index"
        client: Any = job.ledger.client
        (tag,) = client.zrange(index, 0, -1)
        client.zadd(index, {tag: 1.0})

        assert queue.channel.qos.renew() == 1
        assert abs(scores(job)[0] - redis_now_s(job)) < 30

        # When another has given it back meanwhile, then renewing does not bring it back
        client.delete(index)
        assert queue.channel.qos.renew() == 0
        assert scores(job) == []
        message.ack()
        assert queue.channel.qos.renew() == 0


def test_a_lease_that_has_run_out_goes_back_to_the_queue(job: Job) -> None:
    with consumer(job, 1.0) as dead, consumer(job, 1.0) as other:
        lost = dead.get(timeout=5)
        other.channel.qos.restore_visible()
        assert job.queue.waiting() == 0, "it has not run out yet"

        def restored() -> bool:
            other.channel.qos.restore_visible()
            return job.queue.waiting() == 1

        until(restored, timeout_s=20)
        assert scores(job) == []
        assert job.queue.known() == {7}
        assert other.get(timeout=5).payload == lost.payload


@pytest.mark.parametrize(
    ("url", "kombu_s"),
    [
        ("redis://:p@h:1/0", "ingestredis://:p@h:1/0"),
        ("rediss://h/2", "ingestrediss://h/2"),
        ("unix:///run/redis.sock", "ingestredis+socket:///run/redis.sock"),
    ],
)
def test_urls_are_turned_into_kombu_s(url: str, kombu_s: str) -> None:
    assert broker_url(url) == kombu_s
