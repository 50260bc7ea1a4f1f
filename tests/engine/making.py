"""Jobs for the tests of whole commands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import Result

from ingest.config import Settings
from ingest.job import Job
from tests.cluster import run
from tests.s3_servers import S3Server, use_credentials

MIB = 1 << 20


def files_config(folder: Path, root: Path, destination: str | Mapping[str, Any], **changes: Any) -> Path:
    """A config file of a job over the files below ``root``."""
    config = {
        "name": "trial",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": str(root)}},
        "destination": {"url": destination} if isinstance(destination, str) else dict(destination),
        "upload": {"threads": 4},
        "queue": {"batch_items": 10, "lease_s": 4},
    }
    for place, value in changes.items():
        kept = config.get(place)
        config[place] = {**kept, **value} if isinstance(kept, dict) and isinstance(value, dict) else value
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def s3_folder(server: S3Server, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, Any]:
    """A destination in a new bucket on a server, with its credentials in the environment."""
    use_credentials(monkeypatch, server)
    return {
        "url": f"s3://{server.make_bucket()}/run",
        "endpoint_url": server.endpoint_url,
        "region": "us-east-1",
        **changes,
    }


def bucket_of(destination: Mapping[str, Any]) -> str:
    """The bucket of a destination on S3."""
    return str(destination["url"]).removeprefix("s3://").partition("/")[0]


def objects(server: S3Server, bucket: str) -> dict[str, bytes]:
    """All objects of a bucket, with the folder of the manifests."""
    client = server.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    try:
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
    finally:
        client.close()


def data(stored: Mapping[str, bytes], prefix: str = "run/") -> dict[str, bytes]:
    """Those of the objects that are no manifest, by their keys below the prefix."""
    return {
        key.removeprefix(prefix): body
        for key, body in stored.items()
        if not key.startswith(f"{prefix}.ingest/")
    }


def said(invoke: Callable[..., Result], *arguments: str | Path, code: int = 0) -> list[dict[str, Any]]:
    """What a command prints as JSON."""
    done = invoke(*arguments, "--json")
    assert done.exit_code == code, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def unfinished_uploads(server: S3Server, bucket: str) -> list[str]:
    """The keys of the multipart uploads that a server holds and nobody has ended."""
    client = server.client()
    try:
        found = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    finally:
        client.close()
    return [upload["Key"] for upload in found]


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder that is no manifest."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".ingest" not in path.parts
    }


def open_job(job_id: str) -> Job:
    """The job, looked at from here."""
    return Job(job_id, Settings.load())


def last_job() -> Job:
    """The newest job in this Redis."""
    settings = Settings.load()
    assert settings.redis_url is not None
    with redis.Redis.from_url(settings.redis_url, decode_responses=True) as client:
        return Job(str(client.zrevrange("ingest:jobs", 0, 0)[0]), settings)


def keys_in_redis(url: str) -> set[str]:
    """The names of all keys."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return set(client.scan_iter())


def create(config: Path, *options: str, expect: int = 0) -> Job:
    """Run ``ingest create`` to its end, and the job that it made."""
    done = run("create", str(config), "--yes", "-p", "1", *options)
    assert done.returncode == expect, done.stdout + done.stderr
    return last_job()


def until(happened: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait for something to happen."""
    give_up_s = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < give_up_s, "it did not happen"
        time.sleep(0.05)
