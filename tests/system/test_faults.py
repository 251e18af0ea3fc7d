"""The short form of ``make chaos``: each fault once or twice, under load."""

from functools import partial

import pytest

from tests.system.faults import scenarios
from tests.system.faults.scenarios import Scenario

FAULTS: dict[str, tuple[int, Scenario]] = {
    "a node is killed": (2, scenarios.node_killed),
    "the store is killed, fsync always": (2, partial(scenarios.store_killed, fsync="always")),
    "the store is killed, fsync everysec": (2, partial(scenarios.store_killed, fsync="everysec")),
    "Sentinel's master is killed": (
        1,
        partial(scenarios.sentinel_master_lost, how="killed", write_ack="replica"),
    ),
    "a cluster's master is killed": (
        1,
        partial(scenarios.cluster_master_killed, write_ack="replica"),
    ),
    "a cluster fails over by hand": (1, scenarios.cluster_failover),
    "a cluster's slots are migrated": (1, scenarios.cluster_slots_migrated),
    **{
        f"the way to the store: {mode}": (1, partial(scenarios.proxied, mode=mode))
        for mode in ("delay", "reset", "half-close", "blackhole", "one byte")
    },
    "a node is stopped": (2, scenarios.node_stopped),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_is_promised_holds(fault: str) -> None:
    """Nothing acknowledged is lost, nothing is answered wrongly, and all goes on in time."""
    repeats, scenario = FAULTS[fault]
    row = await scenario(repeats)
    assert row.problems == [], row.seen
