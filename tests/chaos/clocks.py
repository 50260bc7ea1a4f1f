"""Machines whose clocks are wrong, as a Raspberry Pi's is until it has a network."""

from __future__ import annotations

import time
from pathlib import Path

from tests.chaos.report import Report
from tests.chaos.world import World
from tests.needs import require

LIBRARIES = "*/faketime/libfaketimeMT.so.1"
SLEEP = """
# libfaketime breaks the call that Python's own sleep is made of, and no other.
import threading
import time

time.sleep = lambda seconds: threading.Event().wait(seconds) and None
"""


def wrong_clocks(world: World) -> Report:
    """Two nodes are ten minutes off, which S3 bears and is longer than a lease; two are hours off, and refused."""
    world.files(nodes=3)
    world.create()
    late = world.join(1, **_clock(world, "-10m"))
    world.join(1, **_clock(world, "+10m"))
    behind, ahead = world.join(1, **_clock(world, "-3h")), world.join(1, **_clock(world, "+5h"))
    world.fault("clock wrong", 4)
    world.reached(0.2)
    world.kill_and_see(late)
    world.until(lambda: "3.0 hours behind" in behind.said, "a clock was not remarked on")
    world.until(lambda: "5.0 hours ahead" in ahead.said, "a clock was not remarked on")
    world.until(lambda: any("clock is" in hand for hand in _hands(world)), "status does not say so")
    assert not world.job.status().pause, "all wait for a node whose clock is wrong"
    report = world.finish()
    assert report.resumed_s is not None
    assert report.resumed_s <= 1.5 * report.lease_s + world.pace.noise_s, report
    assert abs(world.job.ledger.now_s() - time.time()) < 60, "this test itself needs a right clock"
    return report


def _hands(world: World) -> list[str]:
    return [hand for info in world.job.status().nodes for hand in info.in_hand]


def _clock(world: World, off: str) -> dict[str, str]:
    """What makes a node believe in another time."""
    folder = world.folder / "sleep"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(SLEEP)
    library = next(iter(sorted(Path("/usr/lib").glob(LIBRARIES))), None)
    require(library, "libfaketime is not installed (Debian package faketime)")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": off,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": str(folder),
    }
