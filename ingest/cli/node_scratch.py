"""A node's own folder for passing files, which goes when the node goes."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

_PREFIX = "node-"


class NodeScratch:
    """A new folder for a node, locked while its command lives.

    What nodes left whose command was killed goes first: nobody holds its lock any more.
    """

    def __init__(self, scratch_dir: Path, node: str) -> None:
        for folder in scratch_dir.glob(f"{_PREFIX}*"):
            _remove_if_left(folder)
        self.path = scratch_dir / f"{_PREFIX}{node}"
        self.path.mkdir(mode=0o700)
        self._held = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove it with all that is in it. May be repeated."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def _remove_if_left(folder: Path) -> None:
    try:
        held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # another command was faster
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)
