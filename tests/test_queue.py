from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import RedisFull, RedisUnreachable
from ingest.job import Job
from ingest.ledger import Ledger
from ingest.queue import JobQueue, make_app, queue_name
from tests.engine.jobs_by_hand import job_over
from tests.engine.making import keys_in_redis
from tests.restartable import RestartableRedis, restartable_redis


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A new job."""
    return job_over(tmp_path)


def test_what_is_published_waits_and_is_known(job: Job) -> None:
    job.queue.publish([3, 1, 2])
    job.queue.publish([2])
    job.queue.publish([])

    assert job.queue.waiting() == 4, "one that comes twice does no harm"
    assert job.queue.known() == {1, 2, 3}


def test_a_message_is_small_and_says_job_and_batch_and_no_more(job: Job) -> None:
    job.queue.publish([5])

    client: Any = job.ledger.client
    (text,) = client.lrange(queue_name(job.job_id), 0, -1)
    message = json.loads(text)
    assert message["content-type"] == "application/json"
    assert len(text) < 1500
    assert str(job.settings.state_dir) not in text.decode()


def test_what_is_leased_is_known_and_what_is_acknowledged_is_not(job: Job) -> None:
    job.queue.publish([1, 2])
    app = make_app(job.ledger.url, job.job_id, 30)
    with app.connection_for_read() as connection, connection.SimpleQueue(app.conf.task_queues[0]) as queue:
        first, second = queue.get(timeout=5), queue.get(timeout=5)
        assert job.queue.waiting() == 0
        assert job.queue.known() == {1, 2}

        first.ack()
        second.reject(requeue=True)
        assert len(job.queue.known()) == 1
        assert job.queue.waiting() == 1


def test_a_purge_leaves_no_key(job: Job, redis_url: str) -> None:
    other = JobQueue(Ledger(job.ledger.url, "other"), 30)
    other.publish([1])
    before = keys_in_redis(redis_url)
    job.queue.publish(range(10))
    app = make_app(job.ledger.url, job.job_id, 30)
    with app.connection_for_read() as connection, connection.SimpleQueue(app.conf.task_queues[0]) as queue:
        queue.get(timeout=5)
        job.queue.purge()
        job.queue.purge()

        assert keys_in_redis(redis_url) == before
        assert other.known() == {1}


def test_a_redis_that_is_gone_is_one_of_our_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with restartable_redis() as server:
        monkeypatch.setenv("INGEST_REDIS_URL", server.url)
        job = job_over(tmp_path)
        job.queue.publish([1])
        server.kill()

        with pytest.raises(RedisUnreachable):
            job.queue.publish([2])

        # When it is back, then the queue is as it was
        server.start()
        job.queue.publish([3])
        assert 3 in job.queue.known()


def test_a_redis_that_is_full_or_dies_in_the_middle_of_publishing_is_one_of_our_errors(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = job.ledger.client
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisFull):
            job.queue.publish([1])
    finally:
        client.config_set("maxmemory", 0)

    def batches(server: RestartableRedis) -> Iterator[int]:
        yield 1
        server.kill()
        yield 2

    with restartable_redis() as server:
        monkeypatch.setenv("INGEST_REDIS_URL", server.url)
        ledger = Ledger(server.url, "other")
        with pytest.raises(RedisUnreachable):
            JobQueue(ledger, 30).publish(batches(server))


def test_a_process_may_take_minutes_to_make_its_kit(job: Job) -> None:
    app = make_app(job.ledger.url, job.job_id, 30)

    assert app.conf.worker_proc_alive_timeout > 300
