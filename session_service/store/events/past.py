"""The past of an outbox: whether a client can still resume at a position.

A position is a moment of the store's clock. It becomes invalid if the data set is another one, or
an older copy, or if the clock went back: new events then get ids before it, and a client that
resumes there would miss them. ``lua/events/past.lua`` keeps the affected positions of each shard;
``ClockWatch`` notices that a clock went back.
"""

import math
from functools import lru_cache
from typing import NamedTuple

from session_service.domain.budgets import CLOCK_RATE_ERROR, CLOCK_RESOLUTION_MS
from session_service.domain.events import EventId


class Doubt(NamedTuple):
    """A range of positions at which clients cannot resume, in epoch ms."""

    after: int  # exclusive
    until: int  # inclusive

    def merged_with(self, other: "Doubt | None") -> "Doubt":
        """Return the range that covers this one and the other, if there is one."""
        if other is None:
            return self
        return Doubt(min(self.after, other.after), max(self.until, other.until))


NO_DOUBT = Doubt(0, 0)


class Past(NamedTuple):
    """The past of a shard, e.g. ``1764000000.123456 1764000000123 1764000000123 0 0``."""

    epoch: bytes  # made with the data set
    mark: int  # when a node last saw it, about (epoch ms)
    gone: int  # events before this moment may be missing (epoch ms)
    doubt: Doubt

    @staticmethod
    @lru_cache(maxsize=1024)  # the same 256 are read ten times a second
    def parse(value: bytes) -> "Past | None":
        """Read the text of past.lua; return None if it is empty or malformed."""
        epoch, *moments = value.split(b" ")
        if len(moments) != 4 or not all(moment.isdigit() for moment in moments):
            return None
        mark, gone, after, until = map(int, moments)
        return Past(epoch, mark, gone, Doubt(after, until))

    @property
    def is_whole(self) -> bool:
        """Whether the shard has every event since its outbox began, which is then ``gone``."""
        seconds, _, micros = self.epoch.partition(b".")
        is_moment = seconds.isdigit() and micros.isdigit()
        return is_moment and self.gone == 1000 * int(seconds) + int(micros) // 1000

    def covers(self, position: EventId, shard: str) -> bool:
        """Return whether the shard has every event after a client's position."""
        is_doubtful = self.doubt.after < position.ms <= self.doubt.until
        return self.gone <= first_ms(position, shard) and not is_doubtful


def first_ms(position: EventId, shard: str) -> int:
    """Return the first moment at which a shard can have an event after a position (epoch ms)."""
    is_whole_ms = position == EventId.before(position.ms + 1)
    return position.ms + (is_whole_ms or shard < position.shard)


class _Reading(NamedTuple):
    """A reading of a server's clock: its offset from ours is between two values, in ms."""

    lowest: float
    highest: float
    sent: float
    received: float


class ClockWatch:
    """Notices that a store's clock went back, by this machine's monotonic clock."""

    def __init__(self) -> None:
        self._last: dict[str, _Reading] = {}

    def observe(self, server: str, clock_ms: int, sent: float, received: float) -> Doubt | None:
        """Compare a clock with its last reading; return the doubtful positions if it went back.

        It was read between ``sent`` and ``received`` (monotonic seconds). Positions are doubtful if
        clients got them by the former time, and events can get them again by the new time.
        """
        lowest = clock_ms - 1000 * received
        highest = clock_ms + CLOCK_RESOLUTION_MS - 1000 * sent
        last = self._last.get(server)
        doubt = None
        if last is not None:
            # A clock that is slewed runs slower for a while; it does not go back.
            expected = last.lowest - CLOCK_RATE_ERROR * 1000 * max(received - last.received, 0)
            if highest < expected:
                doubt = Doubt(
                    math.floor(1000 * last.sent + lowest) - 1,
                    math.ceil(1000 * received + last.highest),
                )
            else:
                lowest = max(lowest, expected)
        self._last[server] = _Reading(lowest, highest, sent, received)
        return doubt
