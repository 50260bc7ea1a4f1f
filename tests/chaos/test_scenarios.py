"""Every scenario in its short form: leases are short, and outages last a fifteenth.

They mostly wait, so several run at one time, in processes of their own, whatever number of workers pytest has:
the first test that needs one starts all that are selected, and each test then waits for its report.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.apart import ROOT
from tests.chaos.report import read
from tests.chaos.scenarios import SCENARIOS
from tests.cluster import is_running

LONGEST_S = 1500


@pytest.fixture(scope="session")
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of reports of all selected scenarios, which one of pytest's workers has started."""
    has_workers = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if has_workers else base) / "chaos"
    try:
        folder.mkdir()
    except FileExistsError:
        return folder / "reports.jsonl"  # another worker was here first
    names = [name for item in request.session.items if (name := scenario_of(item))]
    command = [sys.executable, "-P", "-m", "tests.chaos", "each", "--out", str(folder / "reports.jsonl")]
    command += ["--while", str(os.getppid() if has_workers else os.getpid())]
    with (folder / "log").open("wb") as log:
        pid = os.posix_spawn(  # not a child that somebody waits for: it outlives this worker
            sys.executable,
            [*command, *(word for name in names for word in ("--only", name))],
            {**os.environ, "PYTHONPATH": str(ROOT)},
            file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)],
            setsid=True,
        )
    (folder / "pid").write_text(f"{pid}")
    return folder / "reports.jsonl"


def scenario_of(item: Any) -> str | None:
    """The scenario that a test waits for, where it is one of these here."""
    is_one = getattr(item, "originalname", "") == test_no_item_is_lost_added_or_counted_twice.__name__
    return str(item.callspec.params["name"]) if is_one else None


def is_going_on(pid: Path) -> bool:
    """Whether the process that runs the scenarios is there, or about to be."""
    return not (pid.exists() and pid.read_text()) or is_running(int(pid.read_text()))


@pytest.mark.timeout(LONGEST_S)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_item_is_lost_added_or_counted_twice(name: str, reports: Path) -> None:
    found: list[dict[str, Any]] = []
    while not found:
        time.sleep(0.5)
        goes_on = is_going_on(reports.with_name("pid"))
        found = [report for report in read(reports) if report["scenario"] == name]
        assert found or goes_on, reports.with_name("log").read_text()

    print(found)
    if found[0]["skipped"]:
        pytest.skip(found[0]["skipped"])
    assert not found[0]["error"], found[0]["error"]
    assert sum(found[0]["faults"].values()) > 0, "nothing was broken"
