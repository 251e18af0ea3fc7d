"""Times: epoch milliseconds inside the service, ISO 8601 outside of it; and random delays."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

LATEST_MS = 253_402_300_799_999  # the last millisecond of the year 9999

# A fraction from 0 to 1 that spreads retries over time, so that they do not come all at once.
jitter: Callable[[], float] = random.random


def iso(ms: int) -> str:
    """Format epoch milliseconds, e.g. ``2026-01-15T10:30:45.123Z`` (contract, the head)."""
    seconds, milliseconds = divmod(ms, 1000)
    return f"{_iso_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=16_384)  # the seconds of some hours: times in a response are close together
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
