"""A store that is slow, down, refuses, breaks off or lies: the work waits, and no item fails."""

from __future__ import annotations

import time

from tests.chaos.report import Report
from tests.chaos.s3_proxy import S3Faults
from tests.chaos.world import World

OTHER_SECRET = "another-secret-key-than-the-nodes-have"  # a test server's


def s3_slow(world: World) -> Report:
    """Every answer takes seconds, and bodies trickle."""
    world.fault("store slow")
    return _for_a_while(world, S3Faults(delay_s=world.pace.of(5, least_s=1), bytes_per_s=4000))


def s3_storm(world: World) -> Report:
    """Most requests are answered with 503 and ``Retry-After``, which is heeded; then with 500."""
    _begun(world)
    retry_after_s = world.random.randint(2, max(2, int(world.pace.of(15))))
    world.s3_proxy.faults = S3Faults(
        refused=world.random.uniform(0.5, 0.9), status=503, retry_after_s=retry_after_s
    )
    time.sleep(world.pace.of(90, least_s=15))
    world.s3_proxy.faults = S3Faults(refused=0.5, status=500)
    time.sleep(world.pace.of(30, least_s=4))
    world.s3_proxy.mend()
    report = world.finish()
    left_alone_s = min(world.s3_proxy.seen.left_alone_s)
    report.facts |= {"Retry-After": retry_after_s, "left alone for at least": round(left_alone_s, 2)}
    assert left_alone_s >= 0.99 * retry_after_s, report
    return report


def s3_resets(world: World) -> Report:
    """Connections are reset in the middle of bodies, and in the middle of answers."""
    return _for_a_while(
        world,
        S3Faults(
            reset_in_body=world.random.uniform(0.1, 0.5), reset_in_answer=world.random.uniform(0.05, 0.3)
        ),
    )


def s3_down(world: World) -> Report:
    """The store is killed, and is back after a minute."""
    _begun(world)
    world.s3.stop()
    world.fault("store down")
    _pauses(world)
    time.sleep(world.pace.of(60))
    world.s3.start()
    return world.finish()


def s3_refuses(world: World) -> Report:
    """The store takes the nodes' credentials for wrong ones from the middle on, until they are valid again."""
    _refused(world)
    world.s3.stop()
    world.s3.start()
    return world.finish()


def s3_key_renewed(world: World) -> Report:
    """The nodes' key is replaced at the store, and after a while in their credentials file, too."""
    _refused(world)
    world.write_secret(OTHER_SECRET)
    return world.finish()


def _refused(world: World) -> None:
    _begun(world)
    world.s3.stop()
    world.s3.start(secret_key=OTHER_SECRET)
    world.fault("credentials refused")
    world.nodes[0].command.wait_for(
        lambda event: "refused" in (event.get("pause") or ""), world.pace.patience_s
    )
    stored = len(world.s3_proxy.seen.stored)
    time.sleep(world.pace.of(60))
    assert len(world.s3_proxy.seen.stored) == stored, "it went on without credentials"


def s3_lies(world: World) -> Report:
    """Answers have an ETag that is not that of what was sent: it is read back, or sent again, before it counts."""
    _begun(world)
    world.s3_proxy.faults = S3Faults(tampered=world.random.uniform(0.1, 0.5))
    world.goes_on(0.4)
    world.s3_proxy.mend()
    report = world.finish()
    tampered = report.faults["ETag tampered with"]
    looked_at = report.twice + world.s3_proxy.seen.read
    # Where the machine is so slow that leases end, the node that takes a batch over finds some of them right.
    assert looked_at >= 0.9 * tampered, f"{tampered} were not proven, and {looked_at} were looked at again"
    return report


def _begun(world: World) -> None:
    world.files(nodes=2)
    world.create()
    world.join()
    world.reached(0.2)


def _for_a_while(world: World, faults: S3Faults) -> Report:
    _begun(world)
    world.s3_proxy.faults = faults
    time.sleep(world.pace.of(120, least_s=10))
    world.s3_proxy.mend()
    return world.finish()


def _pauses(world: World) -> None:
    """Wait until a node says that, and why, it waits."""
    world.nodes[0].command.wait_for(lambda event: bool(event.get("pause")), world.pace.patience_s)
