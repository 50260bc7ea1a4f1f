"""Nodes and processes that die."""

from __future__ import annotations

import time

from tests.chaos.report import Report
from tests.chaos.s3_proxy import S3Faults
from tests.chaos.world import World

MIB = 1 << 20
PART_BYTES = 5 * MIB
PARTS = 10


def nodes_killed(world: World) -> Report:
    """Nodes are killed with ``kill -9``, one after another, and others join: one a minute at full pace."""
    period_s = world.pace.of(60, least_s=6)
    world.files(nodes=3)
    world.create()
    world.join()
    world.join()
    world.reached(0.1)
    while world.done() < 0.75 * len(world.expected):
        began_s = time.monotonic()
        world.kill_and_see(world.random.choice(world.nodes))
        world.join().command.wait_for(lambda event: event["event"] == "progress", world.pace.patience_s)
        world.goes_on(0.05)
        time.sleep(max(0.0, began_s + period_s - time.monotonic()))
    return _resumed_in_time(world)


def child_killed(world: World) -> Report:
    """One process of a node's pool is killed alone; the node gives its batch back at once and starts another."""
    world.files(nodes=2, processes=2)
    node = world.create(processes=2)
    world.join(processes=2)
    for share in (0.1, 0.3, 0.5, 0.7):
        world.reached(share)
        before, killed_s = world.in_hand(), time.monotonic()
        node.kill_child(world.random.randrange(2))
        world.fault("process of a pool killed")
        world.until(lambda: world.taken_up(before), "what it had in hand was not begun again")  # noqa: B023
        world.resumed(killed_s)
        world.until(lambda: len(node.pool) == 2, "no other process was started")
        # An item that is just begun anew when its process is killed again, and again, is rightly taken for its killer.
        world.until(lambda: before.keys().isdisjoint(world.in_hand()), "what it had in hand was not done")  # noqa: B023
    return _resumed_in_time(world)


def killed_in_multipart(world: World) -> Report:
    """A node's whole group is killed in the middle of a large file; another goes on from the parts that are there."""
    world.large_file("large.bin", PARTS * PART_BYTES - 1000)
    rate = int(PARTS * PART_BYTES / world.pace.of(120, least_s=10))
    sizes = {"multipart_threshold_bytes": PART_BYTES, "part_size_bytes": PART_BYTES}
    world.create(upload={**sizes, "bandwidth_bytes_per_s": rate})
    stored = world.s3_proxy.seen.stored
    for parts in (3, 6):
        world.until(lambda: len(stored) >= parts, "no parts are sent")  # noqa: B023
        world.s3_proxy.faults = S3Faults(mute=True)  # so that it is not done before another node is there
        world.join().command.wait_for(lambda event: len(event.get("nodes") or ()) == 2, world.pace.patience_s)
        world.kill(world.nodes[0])
        sent, killed_s = dict(stored), time.monotonic()
        world.s3_proxy.mend()
        world.until(lambda: len(stored) > len(sent), "no other node goes on with the file")  # noqa: B023
        world.resumed(killed_s)
        again = [place for place, times in sent.items() if stored[place] > times]
        assert again == [], f"these were there, and were sent again: {again}"
        world.report.facts[f"parts kept at kill {world.report.faults['node killed']}"] = len(sent)
    return _resumed_in_time(world)


def _resumed_in_time(world: World) -> Report:
    report = world.finish()
    assert report.resumed_s is not None
    assert report.resumed_s <= 1.5 * report.lease_s + world.pace.noise_s, report
    assert report.twice_percent < 2, report
    return report
