"""task-queue's enqueueing: ``task_queue_client.py SCRATCH COUNT`` puts that many tasks into a file queue.

A file queue (``fq://``) is what it has without a cloud. Its last line says what it did, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path

from taskqueue import TaskQueue, queueable


@queueable
def put(path: str, key: str) -> None:
    """Store one file."""


def main() -> None:
    """Run what the command line asks for."""
    folder, count = Path(sys.argv[1]) / "queue", int(sys.argv[2])
    queue = TaskQueue(f"fq://{folder}", progress=False)
    began_s = time.monotonic()
    queue.insert(
        (partial(put, f"/data/{n:09d}.bin", f"prefix/{n:09d}.bin") for n in range(count)), total=count
    )
    running_s = time.monotonic() - began_s
    if queue.enqueued != count:
        raise RuntimeError(f"{queue.enqueued} of {count} tasks are queued")
    print(json.dumps({"items": count, "running_s": running_s}))


if __name__ == "__main__":
    main()
