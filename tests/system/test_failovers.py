"""Faults of stores with replicas: masters are killed, suspended, cut off and replaced."""

from tests.support.faults import check, scenarios


@scenarios(
    {
        "sentinel-killed-replica": 1,
        "sentinel-suspended-none": 2,
        "sentinel-isolated-none": 2,
        "sentinel-isolated-replica": 1,
        "cluster-killed-none": 1,
        "cluster-suspended-replica": 1,
        "cluster-isolated-none": 1,
        "cluster-failover": 2,
        "cluster-migrated-replica": 2,
    }
)
def test_what_was_acknowledged_holds(name: str, often: int) -> None:
    """No response is false, no acknowledged change is lost, and no key is orphaned."""
    check(name, often)
