"""What a test needs from the machine: missing, it skips on a laptop and fails in CI."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def require(condition: object, reason: str) -> None:
    """Skip the test, with ``reason``, where ``condition`` is false; fail it where the variable CI is set."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"needed in CI: {reason}")
    pytest.skip(reason)


def program(name: str) -> str:
    """The path of a program beside this Python, or on PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    require(found, f"{name} is not installed (`pip install -e .[dev]`)")
    assert found is not None
    return found


def chromium() -> str:
    """The path of the browser that pages are tested in."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    require(found, "chromium is not installed (`apt-get install chromium`)")
    assert found is not None
    return found
