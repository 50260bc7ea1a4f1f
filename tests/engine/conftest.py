"""What the tests of whole jobs share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingest.cli import main

Invoke = Callable[..., Result]


@pytest.fixture
def invoke() -> Iterator[Invoke]:
    """Runs ``ingest`` in this process, for commands that end before a node is started."""
    before = logging.root.handlers[:]

    def run_command(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    yield run_command
    logging.root.handlers[:] = before
