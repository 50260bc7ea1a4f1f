"""The record of offloads: what was added is there, also after a power cut or a full disk in the middle of a line."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest import offloads
from ingest.config import Settings
from ingest.errors import ConfigError

DEVICE = "wt-a1b2c3d4"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


def add(settings: Settings, job_id: str) -> None:
    offloads.append(settings, DEVICE, job_id, destination=None, backup=None, created_s=0)


def jobs(settings: Settings) -> list[str]:
    return [record["job_id"] for record in offloads.read(settings, DEVICE)]


@pytest.mark.parametrize("left_bytes", [1, 5, 130])
def test_a_line_that_a_power_cut_left_unfinished_spoils_none_after_it(
    left_bytes: int, settings: Settings
) -> None:
    add(settings, "first")
    add(settings, "second")
    path = offloads.path_of(settings, DEVICE)
    whole, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole + second[: min(left_bytes, len(second) - 1)])
    assert jobs(settings) == ["first"]

    add(settings, "third")
    add(settings, "fourth")

    assert jobs(settings) == ["first", "third", "fourth"]


@contextmanager
def full_disk(at_bytes: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_record_that_has_no_room_is_said_to_have_none(settings: Settings) -> None:
    add(settings, "first")
    path = offloads.path_of(settings, DEVICE)

    with (
        full_disk(path.stat().st_size + 10),
        pytest.raises(ConfigError, match="jsonl cannot be written: No space"),
    ):
        add(settings, "second")

    add(settings, "third")
    assert jobs(settings) == ["first", "third"]
