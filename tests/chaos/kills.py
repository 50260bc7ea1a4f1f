"""Nodes and processes that die."""

from __future__ import annotations

from tests.chaos.report import Report
from tests.chaos.world import World

MIB = 1 << 20
PART_BYTES = 5 * MIB
SLACK_S = 4.0
"""What starting a process and being looked at may take on a busy machine."""


def nodes_killed(world: World) -> Report:
    """Nodes are killed with ``kill -9``, one after another, and others join."""
    world.files(nodes=3)
    world.create()
    world.join()
    world.join()
    for share in (0.15, 0.4, 0.65):
        world.reached(share)
        world.kill_and_see(world.random.choice(world.nodes))
        world.join()
    report = world.finish()
    assert report.resumed_s is not None
    assert report.resumed_s <= 1.5 * report.lease_s + SLACK_S, report
    assert report.twice_percent < 2, report
    return report
