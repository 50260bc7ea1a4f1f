"""boss-ingest's client, on a list of tiles in the place of its SQS queues.

    boss_client.py ENDPOINT BUCKET PREFIX FOLDER SECTIONS PIXELS TILE PROCESSES TILES

It does the first TILES of them.

Everything an item costs is its own code: ``Engine.upload_tile`` asks its z-stack plugins for the tile and puts it
with boto3. Only taking a task and deleting it cost nothing here, which they do on SQS.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from typing import Any

import boto3
from botocore.config import Config
from ingestclient.core.backend import BossBackend
from ingestclient.core.config import Configuration
from ingestclient.core.engine import Engine

PLUGINS = "ingestclient.plugins.stack.ZindexStack"


class ListBackend(BossBackend):  # type: ignore[misc]
    """A backend whose tasks need no queue."""

    def delete_task(self, message_id: str, receipt_handle: str) -> bool:
        """A task is done."""
        return True

    def put_task(self, message: str, max_retries: int) -> bool:
        """A tile is to be indexed."""
        return True


def config_of(folder: str, sections: int, pixels: int, tile: int) -> dict[str, Any]:
    """A config as the client takes it."""
    stack = {"root_dir": folder, "extension": "png", "base_filename": "<p:4>"}
    return {
        "schema": {"name": "boss-v0.1-schema", "validator": "BossValidatorV01"},
        "client": {
            "backend": {"name": "boss", "class": "BossBackend", "host": "localhost", "protocol": "http"},
            "path_processor": {"class": f"{PLUGINS}PathProcessor", "params": stack},
            "tile_processor": {
                "class": f"{PLUGINS}TileProcessor",
                "params": {"filesystem": "local", "extension": "png"},
            },
        },
        "database": {"collection": "c", "experiment": "e", "channel": "ch"},
        "ingest_job": {
            "resolution": 0,
            "extent": {"x": [0, pixels], "y": [0, pixels], "z": [0, sections], "t": [0, 1]},
            "tile_size": {"x": tile, "y": tile, "z": 1, "t": 1},
        },
    }


def work(
    config: dict[str, Any], endpoint: str, bucket: str, prefix: str, tiles: list[tuple[int, int, int]]
) -> None:
    """One process: its share of the tiles, one after the other, as ``Engine.run`` does."""
    engine = Engine()
    engine.config = Configuration(config)
    engine.config.load_plugins()
    engine.tile_processor = engine.config.tile_processor_class
    engine.tile_processor.setup(engine.config.get_tile_processor_params())
    engine.path_processor = engine.config.path_processor_class
    engine.path_processor.setup(engine.config.get_path_processor_params())
    engine.ingest_job_id, engine.job_params = 1, {"upload_queue": "q"}
    engine.backend = ListBackend(config)
    s3 = boto3.resource("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))
    engine.backend.bucket = _Below(s3.Bucket(bucket), prefix)
    for x, y, z in tiles:
        key = engine.backend.encode_tile_key([1, 1, 1], 0, x, y, z)
        message = {"tile_key": key, "chunk_key": "chunk"}
        if not engine.upload_tile(message, "message", "receipt"):
            raise RuntimeError(f"tile {x} {y} {z} failed")


class _Below:
    """A bucket, with a prefix before each key."""

    def __init__(self, bucket: Any, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix

    def put_object(self, *, Key: str, **given: Any) -> Any:
        """Store an object."""
        return self._bucket.put_object(Key=f"{self._prefix}/{Key}", **given)


def main() -> None:
    """Run what the command line asks for."""
    endpoint, bucket, prefix, folder, *numbers = sys.argv[1:]
    sections, pixels, tile, processes, count = map(int, numbers)
    side = range(pixels // tile)
    tiles = [(x, y, z) for z in range(sections) for y in side for x in side][:count]
    config = config_of(folder, sections, pixels, tile)
    began_s = time.monotonic()
    shares = [(config, endpoint, bucket, prefix, tiles[number::processes]) for number in range(processes)]
    workers = [multiprocessing.Process(target=work, args=share) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a process failed")
    print(json.dumps({"items": len(tiles), "running_s": time.monotonic() - began_s}))


if __name__ == "__main__":
    main()
