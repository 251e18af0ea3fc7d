"""Faults of a single store: it is killed, denies, evicts, jumps in time, or has other data."""

from tests.support.faults import check, scenarios


@scenarios(
    {
        "store-killed-always": 2,
        "store-killed-everysec": 2,
        "evicted": 1,
        "denied": 9,
        "clock-back-2": 1,
        "clock-back-25": 1,
        "clock-back-300": 1,
        "clock-replica-25": 1,
        "flushed": 1,
        "swapped": 1,
        "started-empty": 1,
        "started-old": 1,
    }
)
def test_what_was_acknowledged_holds(name: str, often: int) -> None:
    """No response is false, no acknowledged change is lost, and no key is orphaned."""
    check(name, often)
