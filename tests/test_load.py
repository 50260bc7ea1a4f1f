"""The load trials of benchmarks/load/, in a small form: they run, and what they count is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.needs import program, require

LOAD = Path(__file__).parent.parent / "benchmarks" / "load"


def trial(tmp_path: Path, name: str, *arguments: str) -> dict[str, Any]:
    """What a trial found, as it writes it down."""
    require(sys.platform == "linux", "the load trials read /proc")
    out = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, LOAD / f"{name}.py", *arguments, "--json", out],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.timeout(240)
def test_tiles(tmp_path: Path) -> None:
    found = trial(tmp_path, "tiles", "--tiles", "30000", "--every-s", "0.1")

    assert found["samples"][-1]["counts"]["committed"] == 235
    assert 0 < found["our_cpu_us_per_item"] < 5000
    assert 0 < found["redis_bytes_per_item"] < 1000
    assert 0 < found["manifest_peak_rss_bytes"] < 500 << 20


@pytest.mark.timeout(240)
def test_files(tmp_path: Path) -> None:
    found = trial(tmp_path, "files", "--files", "3000", "--every-s", "0.1", "--folder", str(tmp_path))

    assert found["fed"]["files"] == 3000
    # so few take less than Redis's own buffers come and go by
    assert found["fed"]["redis_bytes"] / 3000 < 1000


@pytest.mark.timeout(240)
def test_a_large_file_that_goes_up_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(program("rclone")).parent), prepend=os.pathsep)

    found = trial(tmp_path, "large_file", "--gib", "0.2", "--to", "s3", "--folder", str(tmp_path))

    assert found["peaks"]["process"] > 0


def test_commits(tmp_path: Path) -> None:
    found = trial(tmp_path, "commits", "--nodes", "20", "--commits", "2000", "--at-once", "1,3")

    # 100 batches of each node, three at once and a last one alone
    assert [run["commits"] for run in found["runs"]] == [2000, 2000]


@pytest.mark.timeout(240)
def test_item_cost(tmp_path: Path) -> None:
    found = trial(tmp_path, "item_cost", "--tiles", "8000", "--rounds", "1", "--every-s", "0.1")

    (cost,) = found["rounds"]
    assert 0 < cost["alone_us"] < 5000
    assert found["ours_us"] > -cost["alone_us"]
