"""Where the ``ingest`` command begins. Quick to import: a Ctrl-C may come while all else is loaded."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # else it is ignored, as of nohup's kind
        signal.signal(signal.SIGINT, _end_at_once)
    import_module("ingest.cli").main()


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """Before a command has begun, and after it has ended, there is nothing to tidy up, and nobody to catch an error."""
    os._exit(EXIT_INTERRUPTED)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it, a Ctrl-C is an error that is raised, as everywhere in Python."""
    if signal.getsignal(signal.SIGINT) is not _end_at_once:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _end_at_once)
