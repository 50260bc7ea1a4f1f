"""A Redis that dies, forgets, freezes or is full."""

from __future__ import annotations

import time
from typing import Any

from tests.chaos.report import Report
from tests.chaos.world import World


def redis_killed(world: World) -> Report:
    """Redis is killed with ``kill -9``, several times, and started again."""
    world.files(nodes=2)
    world.create()
    world.join()
    for share in (0.2, 0.5):
        world.reached(share)
        world.redis.kill()
        world.fault("Redis killed")
        time.sleep(world.random.uniform(0, world.pace.of(20, least_s=2)))
        world.redis.start()
        world.goes_on()
    return world.finish()


def redis_forgets(world: World) -> Report:
    """Redis is killed, and has lost its last second when it is back, while the feeder runs."""
    world.files(nodes=2)
    world.create()
    world.join()
    for share in (0.1, 0.3, 0.5):
        world.reached(share)
        assert not world.job.status().counts.enumerated, "the feeder is done too early"
        assert world.redis.kill_and_forget(world.random.uniform(0.8, 1.2)) > 0
        world.fault("Redis lost its last second")
        world.redis.start()
        world.goes_on()
    return world.finish()


def redis_frozen(world: World) -> Report:
    """Redis is stopped (``SIGSTOP``) for 30 s: connections stay, and nobody answers."""
    world.files(nodes=2)
    world.create()
    world.join()
    world.reached(0.3)
    world.redis.freeze()
    world.fault("Redis frozen")
    time.sleep(world.pace.of(30, least_s=12))
    world.redis.thaw()
    world.goes_on()
    return world.finish()


def redis_full(world: World) -> Report:
    """Redis reaches ``maxmemory``, with ``noeviction``, and gets more after a while."""
    world.files(nodes=2)
    first = world.create()
    second = world.join()
    world.reached(0.3)
    client: Any = world.job.ledger.client
    client.config_set("maxmemory", 1)
    world.fault("Redis full")
    for node in (first, second):
        node.command.wait_for(lambda event: "Redis" in (event.get("trouble") or ""), world.pace.patience_s)
    reached = world.done()
    time.sleep(world.pace.of(60))
    assert world.done() == reached
    client.config_set("maxmemory", 0)
    world.goes_on()
    return world.finish()
