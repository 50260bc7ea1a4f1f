"""Events of batches, as Flower reads them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, cast

import redis

from tests.audit import make_files
from tests.engine.making import create, files_config


def test_all_are_sent_and_many_at_a_time(tmp_path: Path, redis_url: str) -> None:
    make_files(tmp_path / "source", 120)
    config = files_config(
        tmp_path, tmp_path / "source", f"file://{tmp_path}/stored", queue={"batch_items": 2}
    )
    with redis.Redis.from_url(redis_url) as client, client.pubsub() as listener:
        listener.psubscribe("*celeryev*")

        job = create(config)

        heard = []
        while (message := listener.get_message(timeout=0.5)) is not None:
            if message["type"] == "pmessage":
                heard.append(json.loads(cast("bytes", message["data"])))
    events = [_events_of(message) for message in heard]
    batches = [event["uuid"] for sent in events for event in sent if event["type"] == "task-succeeded"]
    assert sorted(batches) == sorted(f"{job.job_id}.{number}" for number in range(60))
    assert len(events) < len(batches)


def _events_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    body = message["body"]
    if isinstance(body, str):
        body = json.loads(base64.b64decode(body))
    return cast("list[dict[str, Any]]", body if isinstance(body, list) else [body])
