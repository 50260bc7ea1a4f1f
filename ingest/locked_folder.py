"""Folders for passing files that are locked while their process lives; what dead processes left is removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path
from tempfile import mkdtemp

LOCK = ".lock"
YOUNG_S = 60.0


class LockedFolder:
    """A new folder below ``parent``, of a name that begins with ``prefix``. Those of dead processes go first."""

    def __init__(self, parent: Path, prefix: str) -> None:
        remove_abandoned(parent, prefix)
        self.path = Path(mkdtemp(prefix=prefix, dir=parent))
        self._lock: int | None = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove it with all that is in it. May be repeated."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def remove_abandoned(parent: Path, prefix: str, young_s: float = YOUNG_S) -> None:
    """Remove the folders of processes that died. A living one's is locked; a very young one is left alone."""
    for folder in parent.glob(f"{prefix}*"):
        try:
            if time.time() - folder.stat().st_mtime < young_s:
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # it has just gone, or is another's
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
