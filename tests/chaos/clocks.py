"""Machines whose clocks are wrong, as a Raspberry Pi's is until it has a network."""

from __future__ import annotations

import time
from pathlib import Path

from tests.chaos.report import Report
from tests.chaos.world import World
from tests.needs import require

LIBRARIES = "*/faketime/libfaketimeMT.so.1"


def wrong_clocks(world: World) -> Report:
    """Two nodes are ten minutes off, which S3 bears and is longer than a lease; two are hours off, and refused."""
    world.files(nodes=3)
    world.create()
    late = world.join(**_clock("-10m"))
    world.join(**_clock("+10m"))
    refused = [world.join(**_clock(off)) for off in ("-3h", "+5h")]
    world.fault("clock wrong", 4)
    world.reached(0.2)
    world.kill_and_see(late)
    for node, said in zip(refused, ("3.0 hours behind", "5.0 hours ahead"), strict=True):
        world.until(lambda node=node, said=said: said in node.said, "its clock was not remarked on")
    hands = [hand for info in world.job.status().nodes for hand in info.in_hand]
    assert any("clock is" in hand for hand in hands), f"status does not say so: {hands}"
    assert not world.job.status().pause, "all wait for a node whose clock is wrong"
    report = world.finish()
    assert report.resumed_s is not None
    assert report.resumed_s <= 1.5 * report.lease_s + 4, report
    assert abs(world.job.ledger.now_s() - time.time()) < 60, "this test itself needs a right clock"
    return report


def _clock(off: str) -> dict[str, str]:
    library = next(iter(sorted(Path("/usr/lib").glob(LIBRARIES))), None)
    require(library, "libfaketime is not installed (Debian package faketime)")
    return {"LD_PRELOAD": str(library), "FAKETIME": off, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
