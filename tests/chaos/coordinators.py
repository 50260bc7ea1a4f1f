"""Who coordinates dies, or is not alone."""

from __future__ import annotations

from typing import Any

from ingest.ledger import State
from tests.chaos.node import Node
from tests.chaos.report import Report
from tests.chaos.s3_proxy import S3Faults
from tests.chaos.world import World


def coordinator_killed_while_it_lists(world: World) -> Report:
    """The node that lists the items is killed on the way, twice; another goes on from where the ledger stands."""
    world.files(nodes=3)
    world.create()
    world.join()
    world.join()
    for share in (0.1, 0.3):
        world.reached(share)
        assert not world.job.status().counts.enumerated, "the feeder is done too early"
        _kill_coordinator(world)
        world.join()
    return world.finish()


def coordinator_killed_while_it_completes(world: World) -> Report:
    """The node that writes the manifest is killed before it is stored, twice; another writes it anew."""
    world.files(nodes=2, work_s=world.pace.work_s / 3)
    world.create()
    world.join()
    world.join()
    world.s3_proxy.faults = S3Faults(
        refused=1.0, status=503, hits=lambda request: request.key.endswith("manifest-sha256.txt")
    )
    for _ in range(2):
        world.until(lambda: world.job.ledger.state() is State.COMPLETING, "the job is not completed")
        _until_refused_again(world)
        _kill_coordinator(world)
    world.s3_proxy.mend()
    return world.finish()


def started_at_once(world: World) -> Report:
    """The first node is killed as soon as the job is made; then ten begin at once, each of which could coordinate."""
    world.files(nodes=2)
    world.kill(world.create())
    for _ in range(10):
        world.join()
    return world.finish()


def _until_refused_again(world: World) -> None:
    faults = world.s3_proxy.seen.faults
    refused = faults["answered 503"]
    world.until(lambda: faults["answered 503"] > refused, "nobody writes the manifest")


def _kill_coordinator(world: World) -> None:
    """Kill the node whose duty it is. One that was killed before holds it until its lease has run out."""
    world.until(lambda: _coordinating(world) is not None, "no node coordinates")
    node = _coordinating(world)
    assert node is not None, "it gave the duty up at this very moment"
    world.fault("coordinator killed")
    node.kill()
    world.nodes.remove(node)


def _coordinating(world: World) -> Node | None:
    client: Any = world.job.ledger.client
    holder = (client.get(world.job.ledger.key("coordinator")) or b"").decode()
    return next((node for node in world.nodes if any(f"-{pid}-" in holder for pid in node.group)), None)
