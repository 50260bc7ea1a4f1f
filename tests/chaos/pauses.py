"""Nodes that sleep and wake up again."""

from __future__ import annotations

import time

from tests.chaos.report import Report
from tests.chaos.world import World


def node_asleep(world: World) -> Report:
    """A node is stopped (``SIGSTOP``) for two lease times, while others do what it had in hand, and goes on."""
    world.files(nodes=2)
    world.create()
    sleeper = world.join()
    world.reached(0.2)
    before = world.in_hand()
    sleeper.stop()
    world.fault("node asleep for two leases")
    asleep_s = time.monotonic()
    world.until(lambda: world.taken_up(before), "what the sleeping node had in hand was not begun again")
    time.sleep(max(0.0, asleep_s + 2 * world.pace.lease_s - time.monotonic()))
    sleeper.go_on()
    return world.finish()
