"""Leases are timed by Redis, whatever the nodes' clocks say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import RedisFull
from ingest.job import Job
from ingest.ledger import State
from ingest.queue import make_app, queue_name
from ingest.transport import broker_url, lease_keys, lease_text, renew
from tests.engine.jobs_by_hand import job_over
from tests.engine.making import until
from tests.restartable import restartable_redis

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


def leases_of(message: Any) -> dict[str, str]:
    return {message.delivery_tag: lease_text(message)}


def renewed(job: Job, message: Any) -> int:
    return renew(job.ledger.client, queue_name(job.job_id), job.ledger.key(), leases_of(message))


def test_a_renewed_lease_is_as_new_whichever_channel_took_it(job: Job) -> None:
    index = f"{queue_name(job.job_id)}:unacked_index"
    client: Any = job.ledger.client
    with consumer(job, 60) as queue:
        message = queue.get(timeout=5)
        client.zadd(index, {message.delivery_tag: 1.0})

    # When the channel is closed, then its lease stays, and may be renewed and ended
    assert job.queue.waiting() == 0
    assert renewed(job, message) == 1
    assert abs(scores(job)[0] - redis_now_s(job)) < 30
    message.ack()
    assert scores(job) == []
    assert job.queue.known() == set()


def test_a_lease_that_redis_forgot_is_taken_anew_while_the_job_takes_work(job: Job) -> None:
    client: Any = job.ledger.client
    with consumer(job, 60) as queue:
        message = queue.get(timeout=5)
        client.delete(*lease_keys(queue_name(job.job_id)))

        assert renewed(job, message) == 1
        assert job.queue.known() == {7}
        assert len(scores(job)) == 1
        message.ack()
        assert job.queue.known() == set()

        # and nothing comes back into the purged queue of a job that was cancelled
        job.ledger.note(state=State.CANCELLING)
        assert renewed(job, message) == 0
        assert scores(job) == []


def test_what_nobody_acknowledged_is_given_back_and_nothing_else(job: Job) -> None:
    job.queue.publish([8, 9])
    with consumer(job, 60) as queue:
        done, *rest = (queue.get(timeout=5) for _ in range(3))
        done.ack()

        assert queue.channel.qos.give_back() == 2
        assert queue.channel.qos.give_back() == 0
        assert job.queue.waiting() == 2
        assert scores(job) == []
        assert {queue.get(timeout=5).delivery_tag for _ in rest} == {message.delivery_tag for message in rest}


def test_a_full_redis_lets_leases_be_taken_renewed_ended_and_given_back(job: Job) -> None:
    job.queue.publish([8, 9])
    client: Any = job.ledger.client
    with consumer(job, 60) as queue:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(RedisFull):
                job.queue.publish([10])
            first, second, third = (queue.get(timeout=5) for _ in range(3))
            assert renewed(job, first) == 1
            first.ack()
            second.reject(requeue=True)
            assert job.queue.waiting() == 1
            assert queue.channel.qos.give_back() == 1
            assert job.queue.waiting() == 2
        finally:
            client.config_set("maxmemory", 0)
    assert third.delivery_tag != second.delivery_tag
    assert scores(job) == []


def test_no_lease_has_run_out_while_redis_was_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with restartable_redis() as server:
        monkeypatch.setenv("INGEST_REDIS_URL", server.url)
        job = job_over(tmp_path)
        job.queue.publish([7])
        with consumer(job, 4) as queue:
            queue.get(timeout=5)
            time.sleep(1.1)  # the append-only file is written each second
            server.kill()
        time.sleep(4)
        server.start()
        up_s = time.monotonic()

        # When another comes first, then it leaves the lease alone for one lease time
        def restored() -> bool:
            with consumer(job, 4) as other:
                other.channel.qos.restore_visible()
            return job.queue.waiting() == 1

        assert not restored()
        until(restored, timeout_s=20)
        assert time.monotonic() - up_s > 2.5


def test_the_queue_is_in_the_database_of_the_ledger(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_REDIS_URL", f"{redis_url}?db=3")
    job = job_over(tmp_path)

    job.queue.publish([7])

    assert job.queue.known() == {7}
    with consumer(job, 60) as queue:
        queue.get(timeout=5).ack()
    assert job.queue.known() == set()


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
        ("redis://:p;redis@h", "ingestredis://:p%3Bredis@h"),
        ("unix://:p@/run/redis.sock", "ingestredis+socket://:p@/run/redis.sock?virtual_host=0"),
        ("unix:///run/redis.sock?db=3", "ingestredis+socket:///run/redis.sock?virtual_host=3"),
    ],
)
def test_urls_are_turned_into_kombu_s(url: str, kombu_s: str) -> None:
    assert broker_url(url) == kombu_s
