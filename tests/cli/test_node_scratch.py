"""A node's folder for passing files goes with it, and what a killed command left goes the next time."""

from __future__ import annotations

from pathlib import Path

from ingest.cli.node_scratch import NodeScratch


def test_it_goes_with_all_that_is_in_it(state_dir: Path) -> None:
    state_dir.mkdir()
    scratch = NodeScratch(state_dir, "host-1-aaaa")
    (scratch.path / "download").write_bytes(b"x")
    scratch.remove()
    scratch.remove()
    assert list(state_dir.iterdir()) == []


def test_what_a_killed_command_left_goes_and_what_a_live_one_has_stays(state_dir: Path) -> None:
    state_dir.mkdir()
    (state_dir / "node-host-2-bbbb").mkdir()
    (state_dir / "node-host-2-bbbb" / "download").write_bytes(b"x")
    (state_dir / "manifest-abc").mkdir()
    live = NodeScratch(state_dir, "host-3-cccc")
    other = NodeScratch(state_dir, "host-4-dddd")
    assert {path.name for path in state_dir.iterdir()} == {
        "manifest-abc",
        "node-host-3-cccc",
        "node-host-4-dddd",
    }
    live.remove()
    other.remove()
