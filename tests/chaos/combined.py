"""Several faults at once, drawn by the seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from tests.chaos.node import Node
from tests.chaos.report import Report
from tests.chaos.s3_proxy import S3Faults
from tests.chaos.world import World


@contextmanager
def _node_killed(world: World, victim: Node) -> Iterator[None]:
    world.kill(victim)
    yield


@contextmanager
def _node_asleep(world: World, victim: Node) -> Iterator[None]:
    world.fault("node asleep")
    victim.stop()
    yield
    victim.go_on()


@contextmanager
def _node_cut_off(world: World, victim: Node) -> Iterator[None]:
    world.fault("network to Redis cut")
    victim.redis.cut()
    yield
    victim.redis.mend()


@contextmanager
def _node_half_open(world: World, victim: Node) -> Iterator[None]:
    world.fault("network to Redis half open")
    victim.redis.swallow()
    yield
    victim.redis.mend(forget=world.random.random() < 0.5)


@contextmanager
def _redis_killed(world: World, victim: Node) -> Iterator[None]:
    world.fault("Redis killed")
    world.redis.kill()
    yield
    world.redis.start()


@contextmanager
def _redis_forgetful(world: World, victim: Node) -> Iterator[None]:
    world.fault("Redis lost its last second")
    world.redis.kill_and_forget(1.0)
    yield
    world.redis.start()


@contextmanager
def _redis_frozen(world: World, victim: Node) -> Iterator[None]:
    world.fault("Redis frozen")
    world.redis.freeze()
    yield
    world.redis.thaw()


@contextmanager
def _s3_down(world: World, victim: Node) -> Iterator[None]:
    world.fault("store down")
    world.s3.stop()
    yield
    world.s3.start()


@contextmanager
def _s3_faults(world: World, victim: Node) -> Iterator[None]:
    share = world.random.uniform
    world.s3_proxy.faults = S3Faults(
        delay_s=share(0, 0.5),
        refused=share(0, 0.5),
        retry_after_s=world.random.choice([None, 1, 3]),
        reset_in_body=share(0, 0.2),
        reset_in_answer=share(0, 0.2),
        tampered=share(0, 0.1),
    )
    yield
    world.s3_proxy.mend()


Fault = Callable[[World, Node], AbstractContextManager[None]]

NODES = 3
ON_NODES: tuple[Fault, ...] = (_node_killed, _node_asleep, _node_cut_off, _node_half_open)
ON_REDIS: tuple[Fault, ...] = (_redis_killed, _redis_forgetful, _redis_frozen)
ON_S3: tuple[Fault, ...] = (_s3_down, _s3_faults)


def all_at_once(world: World) -> Report:
    """Again and again one fault of a node, one of Redis and one of the store, at once, in random order and length."""
    world.files(NODES, work_s=2 * world.pace.work_s)
    world.create()
    world.join()
    world.join()
    world.reached(0.1)
    while world.done() < 0.6 * len(world.expected):
        kinds = [ON_NODES, ON_REDIS, ON_S3]
        world.random.shuffle(kinds)
        with ExitStack() as stack:
            for kind in kinds[: world.random.choice((2, 3))]:
                fault = world.random.choice(kind)
                stack.enter_context(fault(world, world.random.choice(world.nodes)))
                time.sleep(world.random.uniform(0, world.pace.of(15, least_s=1)))
            time.sleep(world.random.uniform(0, world.pace.of(60)))
        while len(world.nodes) < NODES:
            world.join().command.wait_for(lambda event: event["event"] == "joined", world.pace.patience_s)
        world.goes_on(0.1)
    return world.finish()
