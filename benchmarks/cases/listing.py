"""Enumeration: items listed into the queue, with nothing to work on them.

Ingest lists ten million tiles, which are arithmetic, and files, which it finds in a folder. The others have one
message an item, and are given fewer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness import clean_env
from peers import peer
from tools import CLIENTS, Command

NAME = "listing"
TITLE = "items listed into the queue"


def _ours(kind: str, batch_items: int, scratch: Path, count: int) -> Command:
    argv = [
        sys.executable,
        str(CLIENTS / "listing_client.py"),
        kind,
        str(scratch),
        str(count),
        str(batch_items),
    ]
    return Command(argv, clean_env(), says=True)


def _celery(scratch: Path, count: int) -> Command:
    argv = [sys.executable, str(CLIENTS / "celery_client.py"), "enqueue", str(scratch), str(count)]
    return Command(argv, clean_env(), says=True)


def _task_queue(scratch: Path, count: int) -> Command:
    argv = [
        str(peer("task-queue") / "python"),
        str(CLIENTS / "task_queue_client.py"),
        str(scratch),
        str(count),
    ]
    return Command(argv, clean_env(HOME=os.fspath(scratch)), says=True)


TOOLS: dict[str, tuple[int, Callable[[Path, int], Command]]] = {
    "ingest, tiles": (10_000_000, partial(_ours, "tiles", 512)),
    "ingest, tiles, 128 a batch": (10_000_000, partial(_ours, "tiles", 128)),
    "ingest, files": (100_000, partial(_ours, "files", 512)),
    "celery": (20_000, _celery),
    "task-queue": (20_000, _task_queue),
}
