"""Limits on requests: a number in a time, as a bucket that GCRA fills and empties.

The generic cell rate algorithm keeps one number of a bucket: the time at which it is full again.
A bucket of ``100/60s`` holds 100 requests, the burst, and gets one back every 0.6 s. Times are
whole microseconds of one clock. ``store/lua/limits/bucket.lua`` has the same arithmetic for the
store's.
"""

import math
import re
from typing import NamedTuple

from msgspec import Struct

from session_service.domain.errors import RateLimited

SECOND = 1_000_000  # microseconds

_MAX_REQUESTS = 1_000_000
_MAX_SECONDS = 86_400
_MAX_RATE = 100_000  # requests per second: times are rounded to a microsecond
_ROUNDING = 0.5  # microseconds, by which a stored time may be too late

ALLOWED_LIMITS = (
    f"<requests>/<seconds>s such as 100/60s, of at most {_MAX_REQUESTS:,} requests in at most"
    f" {_MAX_SECONDS:,} seconds, and {_MAX_RATE:,} per second"
)

_match = re.compile(r"([1-9][0-9]{0,6})/([1-9][0-9]{0,4})s").fullmatch


class RateLimit(Struct, frozen=True):
    """A limit, and the burst: ``requests`` in ``seconds``, e.g. ``RateLimit(100, 60)``."""

    requests: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> "RateLimit":
        """Read e.g. ``100/60s``; raises ValueError unless it is one of ALLOWED_LIMITS."""
        found = _match(text)
        if not found:
            raise ValueError(ALLOWED_LIMITS)
        limit = cls(int(found[1]), int(found[2]))
        is_small = limit.requests <= _MAX_REQUESTS and limit.seconds <= _MAX_SECONDS
        if not is_small or limit.requests > limit.seconds * _MAX_RATE:
            raise ValueError(ALLOWED_LIMITS)
        return limit

    def __str__(self) -> str:
        return f"{self.requests}/{self.seconds}s"

    @property
    def window(self) -> int:
        """Microseconds in which an empty bucket becomes full."""
        return self.seconds * SECOND

    @property
    def interval(self) -> float:
        """Microseconds in which one request comes back."""
        return self.window / self.requests


class Taken(NamedTuple):
    """The result of taking requests from a bucket."""

    granted: int
    left: int
    wait: int  # microseconds until one more is there
    full_at: int  # the bucket's new state


def take(limit: RateLimit, full_at: int, now: int, wanted: int = 1) -> Taken:
    """Take up to ``wanted`` requests from the bucket that is full at ``full_at``.

    A bucket is never emptier than empty: if the clock was set back, or the limit lowered, it is
    full again after the window at the latest.
    """
    window, interval = limit.window, limit.interval
    spent: float = min(max(full_at - now, 0), window)
    room = int((window - spent + _ROUNDING) // interval)
    granted = min(wanted, room)
    left = room - granted
    spent += granted * interval
    wait = max(0, math.ceil(spent - window + (left + 1) * interval))
    return Taken(granted, left, wait, now + round(spent))


class Standing(NamedTuple):
    """What is left of a limit after a request. ``policy`` is user, key or address."""

    policy: str
    limit: RateLimit
    left: int
    wait: int  # microseconds until one more is there
    is_granted: bool = True

    def check(self) -> None:
        """Raise RateLimited if the request was refused."""
        if not self.is_granted:
            raise self.refusal

    @property
    def seconds(self) -> int:
        """Whole seconds until one more request is allowed, at least 1."""
        return max(1, math.ceil(self.wait / SECOND))

    @property
    def refusal(self) -> RateLimited:
        """The error for a request that the limit refuses."""
        of = {"user": "a user", "key": "an API key", "address": "an address"}[self.policy]
        setting = f"RATE_LIMIT_{self.policy.upper()}"
        return RateLimited(
            f"The limit of {of} is {self.limit.requests} requests in {self.limit.seconds} seconds"
            f" (setting {setting}).",
            self.seconds,
            setting,
        )
