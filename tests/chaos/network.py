"""The network between one node and Redis."""

from __future__ import annotations

import time

from tests.chaos.report import Report
from tests.chaos.world import World
from tests.cluster import is_running


def redis_cut_off(world: World) -> Report:
    """The network between a node and Redis is cut for 90 s: connections break, and new ones are refused."""
    world.files(nodes=2)
    world.create()
    cut = world.join()
    world.reached(0.2)
    cut.redis.cut()
    world.fault("network to Redis cut")
    time.sleep(world.pace.of(90, least_s=1.5 * world.pace.lease_s))
    cut.redis.mend()
    return world.finish()


def redis_half_open(world: World) -> Report:
    """The network between a node and Redis takes packets and delivers none, for 90 s."""
    world.files(nodes=2)
    world.create()
    cut = world.join()
    world.reached(0.2)
    cut.redis.swallow()
    world.fault("network to Redis half open")
    time.sleep(world.pace.of(90, least_s=12))
    cut.redis.mend(forget=world.random.random() < 0.5)
    return world.finish()


def redis_lost_for_good(world: World) -> Report:
    """A node that does not see Redis again stops by itself, with 5; the others do its work."""
    world.files(nodes=2)
    world.create()
    patience_s = world.pace.of(60, least_s=3)
    lost = world.join(INGEST_REDIS_PATIENCE_S=f"{patience_s:.0f}")
    world.reached(0.2)
    before, lost_s = world.in_hand(), time.monotonic()
    if world.random.random() < 0.5:
        lost.redis.cut()
        world.fault("Redis lost for good")
    else:
        lost.redis.swallow()
        world.fault("Redis lost for good, half open")
    processes = lost.group
    assert lost.command.exit_code(patience_s + world.pace.patience_s) == 5, lost.said
    world.report.facts["gave_up_after_s"] = round(time.monotonic() - lost_s, 1)
    world.until(lambda: not any(map(is_running, processes)), "it left processes behind")
    world.nodes.remove(lost)
    world.until(lambda: world.taken_up(before), "what the lost node had in hand was not begun again")
    return world.finish()
