"""Plain Celery, as one writes it first: one message a file, and boto3 in the task.

    celery_client.py upload SCRATCH FOLDER ENDPOINT BUCKET PREFIX    # enqueues each file, and works on them
    celery_client.py enqueue SCRATCH COUNT                           # enqueues that many, and works on none

It starts a Redis of its own in SCRATCH and ends it. Its last line says what it did, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import redis
from botocore.config import Config
from celery import Celery

CORES = len(os.sched_getaffinity(0))
app = Celery("plain", broker=os.environ.get("BENCH_BROKER"))
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
)
_clients: dict[int, Any] = {}


@app.task(name="put")
def put(path: str, endpoint: str, bucket: str, key: str) -> None:
    """Store one file."""
    pid = os.getpid()
    if pid not in _clients:
        config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
        _clients[pid] = boto3.client("s3", endpoint_url=endpoint, config=config)
    with Path(path).open("rb") as file:
        _clients[pid].put_object(Bucket=bucket, Key=key, Body=file)


@contextmanager
def redis_server(scratch: Path) -> Iterator[str]:
    """A Redis on a socket in a folder, with an append-only file, as Ingest's own has; its URL."""
    from ingest.redis_binary import find_binary

    socket = scratch / "redis.sock"
    argv = [str(find_binary().path), "--port", "0", "--unixsocket", str(socket), "--dir", str(scratch)]
    argv += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        try:
            client = redis.Redis(unix_socket_path=str(socket))
            while not socket.exists() or not client.ping():
                time.sleep(0.01)
            client.close()
            yield f"redis+socket://{socket}"
        finally:
            process.terminate()


def upload(scratch: Path, folder: Path, endpoint: str, bucket: str, prefix: str) -> dict[str, float]:
    """Enqueue each file while a worker with two processes a core works on them, until all are done."""
    with redis_server(scratch) as url:
        argv = [
            sys.executable,
            "-m",
            "celery",
            "--workdir",
            str(Path(__file__).parent),
            "-A",
            "celery_client",
        ]
        argv += [
            "worker",
            "--concurrency",
            str(2 * CORES),
            "--without-gossip",
            "--without-mingle",
            "-l",
            "error",
        ]
        with subprocess.Popen(argv, env=os.environ | {"BENCH_BROKER": url}) as worker:
            app.conf.broker_url = url
            began_s, items = time.monotonic(), 0
            for path in sorted(folder.rglob("*.bin")):
                put.delay(str(path), endpoint, bucket, f"{prefix}/{path.relative_to(folder)}")
                items += 1
            client = redis.Redis(unix_socket_path=str(scratch / "redis.sock"))
            while client.llen("celery") or client.hlen("unacked"):
                time.sleep(0.01)
            client.close()
            running_s = time.monotonic() - began_s
            worker.terminate()
    return {"items": items, "running_s": running_s}


def enqueue(scratch: Path, count: int) -> dict[str, float]:
    """Enqueue paths, and nothing more."""
    with redis_server(scratch) as url:
        app.conf.broker_url = url
        put.delay("", "", "", "")  # connections and code are made and loaded now
        began_s = time.monotonic()
        for number in range(count):
            put.delay(f"/data/{number:09d}.bin", "http://localhost", "bench", f"prefix/{number:09d}.bin")
        running_s = time.monotonic() - began_s
        client = redis.Redis(unix_socket_path=str(scratch / "redis.sock"))
        if client.llen("celery") != count + 1:
            raise RuntimeError(f"{client.llen('celery')} of {count + 1} messages are queued")
        client.close()
    return {"items": count, "running_s": running_s}


if __name__ == "__main__":
    if sys.argv[1] == "upload":
        said = upload(Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:7])
    else:
        said = enqueue(Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(said))
