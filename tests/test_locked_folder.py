"""A folder goes when its process lets it go, and what a killed process left goes the next time."""

from __future__ import annotations

import os
from pathlib import Path

from ingest.locked_folder import LOCK, LockedFolder


def test_it_goes_with_all_that_is_in_it(state_dir: Path) -> None:
    state_dir.mkdir()
    folder = LockedFolder(state_dir, "node-")
    (folder.path / "download").write_bytes(b"x")
    folder.remove()
    folder.remove()
    assert list(state_dir.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_live_one_has_stays(state_dir: Path) -> None:
    left, others = state_dir / "node-left", state_dir / "manifest-abc"
    for folder in (left, others):
        folder.mkdir(parents=True)
        (folder / LOCK).write_bytes(b"")
    live = LockedFolder(state_dir, "node-")
    for path in (left, others, live.path):
        os.utime(path, (0, 0))
    other = LockedFolder(state_dir, "node-")
    assert set(state_dir.iterdir()) == {others, live.path, other.path}
    live.remove()
    other.remove()
