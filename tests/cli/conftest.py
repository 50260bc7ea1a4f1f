"""Running commands inside the test's process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingest.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Runs ``ingest`` with these arguments; the result has ``exit_code``, ``stdout`` and ``stderr``."""

    def run_command(*args: str | Path) -> Result:
        return CliRunner().invoke(main, [str(arg) for arg in args])

    return run_command
