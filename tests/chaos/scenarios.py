"""All scenarios. Each starts a job in a :class:`World`, breaks what it is named for, and ends with the audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.chaos import clocks, combined, coordinators, kills, network, pauses, redis_faults, s3_faults
from tests.chaos.report import Report
from tests.chaos.world import Pace, World

Scenario = Callable[[World], Report]

SCENARIOS: Mapping[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        kills.nodes_killed,
        kills.child_killed,
        kills.killed_in_multipart,
        pauses.node_asleep,
        clocks.wrong_clocks,
        coordinators.coordinator_killed_while_it_lists,
        coordinators.coordinator_killed_while_it_completes,
        coordinators.started_at_once,
        redis_faults.redis_killed,
        redis_faults.redis_forgets,
        redis_faults.redis_frozen,
        redis_faults.redis_full,
        network.redis_cut_off,
        network.redis_half_open,
        network.redis_lost_for_good,
        s3_faults.s3_slow,
        s3_faults.s3_storm,
        s3_faults.s3_resets,
        s3_faults.s3_down,
        s3_faults.s3_refuses,
        s3_faults.s3_key_renewed,
        s3_faults.s3_lies,
        combined.all_at_once,
    )
}


def run(name: str, folder: Path, seed: int, pace: Pace) -> Report:
    """Run one, in a folder of its own.

    Raises:
        AssertionError: an item was lost, added or counted twice, or the job did not go on.
    """
    with World(name, folder, seed, pace) as world:
        return SCENARIOS[name](world)
