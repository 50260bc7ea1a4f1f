"""Every scenario in its short form: leases and outages last a fifteenth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.scenarios import SCENARIOS, run
from tests.chaos.world import SHORT


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_item_is_lost_added_or_counted_twice(name: str, tmp_path: Path) -> None:
    report = run(name, tmp_path, seed=1, pace=SHORT)

    assert report.faults.total() > 0, "nothing was broken"
