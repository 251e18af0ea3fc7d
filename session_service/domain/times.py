"""Moments, as they are written for the outside."""

from datetime import UTC, datetime
from functools import lru_cache


def iso(ms: int) -> str:
    """Write epoch milliseconds as ISO 8601 in UTC (contract, the head)."""
    seconds, milliseconds = divmod(ms, 1000)
    return f"{_iso_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=16_384)  # the seconds of some hours: times of one moment are close to each other
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
