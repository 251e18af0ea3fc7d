"""The outbox, read and bounded: what happened to all sessions, or those of some shards, in order.

Each shard has a stream of its own. Their events are merged in the order of their ids, which start
with the store's time. A read comes back with a shard's clock, and has all that happened there
before: so what is older than every shard's clock is complete, and can be told in order. That holds
in a cluster, too, whose clocks differ a little: the one that is behind counts.

Events that come late all the same, for a clock was set back, are told when they come.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from session_service.domain.events import LAST_NUMBER, MAX_RETENTION_MS, Event, EventId, EventPolicy
from session_service.domain.ids import SHARDS
from session_service.store import scripts
from session_service.store.keys import Keys, KeySet
from session_service.store.pipeline import Pipeline
from session_service.store.records import unpack_event
from session_service.store.scripts import Script

_TOGETHER = 32  # shards read, or trimmed, in one call, where they can be
_TRIMMED = 1000  # events of a shard in one call
_LEAST = 16  # events that a shard may have of a call's, whatever the others have
_MOST = 2000  # events in one read, about; as one call they hold Redis for some 4 ms

_FROM_NOW = b"%d" % LAST_NUMBER  # the id of an entry later than any event


class Batch(NamedTuple):
    """What a read found.

    ``is_lost`` tells that the outbox does not have all that follows the position any more, or never
    had it; the reader goes on from now then. ``more`` tells that it has not come to the end.
    """

    events: list[Event]
    is_lost: bool
    more: bool


class Outbox:
    """What the scripts announce."""

    def __init__(self, pipeline: Pipeline, keys: Keys) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._lengths = dict.fromkeys(SHARDS, 0)  # as it was last seen

    async def trim(self, policy: EventPolicy) -> None:
        """Bound it, about, by age and by length: the shards with most have to give.

        Raises StoreUnavailable.
        """
        most = _fair_share(self._lengths.values(), policy.max_length)
        arguments = (most, policy.retention_ms, MAX_RETENTION_MS, _TRIMMED)
        busy: Sequence[str] = SHARDS
        while busy:
            groups = _grouped(busy, self._pipeline, self._keys, scripts.TRIM)
            busy = []
            for shards, keys in groups:
                reply = await self._pipeline.run(scripts.TRIM, keys, arguments)
                self._lengths.update(zip(shards, reply[::2], strict=True))
                trimmed = zip(shards, reply[1::2], strict=True)
                busy += [shard for shard, events in trimmed if events >= _TRIMMED // 2]

    def reader(self, shards: Sequence[str] = SHARDS, after: EventId | None = None) -> "Reader":
        """Make a reader of some shards that starts after a position, or now."""
        return Reader(self._pipeline, self._keys, shards, after)


class Reader:
    """Reads on. All events up to ``position`` were read."""

    def __init__(
        self, pipeline: Pipeline, keys: Keys, shards: Sequence[str], after: EventId | None
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._is_checked = after is None  # whether the outbox can know the position
        self.position = EventId.before(0) if after is None else after
        self._first: dict[str, bytes] = {}  # of each shard the first entry that was not read
        self._groups: list[tuple[Sequence[str], KeySet]] = []  # shards that are read by one call
        self.read_from(shards)
        if after is None:
            self._first = dict.fromkeys(shards, _FROM_NOW)

    def read_from(self, shards: Sequence[str]) -> None:
        """Read from these shards in the future, those that are new to it from the position on."""
        self._first = {s: self._first.get(s) or _first_after(self.position, s) for s in shards}
        self._groups = _grouped(shards, self._pipeline, self._keys, scripts.READ)

    async def read(self) -> Batch:
        """Read what comes next, in order; nothing twice, and without a gap.

        Raises StoreUnavailable, and can be called again then.
        """
        replies = await asyncio.gather(*(self._ask(*group) for group in self._groups))
        clocks, found, ends, is_lost = [], [], [], False
        for (shards, _), (seconds, microseconds, *told) in zip(self._groups, replies, strict=True):
            clocks.append(int(seconds) * 1000 + int(microseconds) // 1000)
            for number, how, entries in zip(told[::3], told[1::3], told[2::3], strict=True):
                found += [(_id(entry, shards[number]), fields[1]) for entry, fields in entries]
                if how == b"more":
                    ends.append(found[-1][0])
                is_lost = is_lost or how == b"gone"
        now = EventId.before(min(clocks))
        is_lost = is_lost or not (self._is_checked or self._is_known(min(clocks), max(clocks)))
        self._is_checked = True
        if is_lost:
            self._first = dict.fromkeys(self._first, _FROM_NOW)
            self._come_to(now)
            return Batch([], is_lost=True, more=False)

        found.sort()
        until = max(min(now, *ends) if ends else now, self.position)
        complete = bisect_right(found, until, key=itemgetter(0))
        more = bool(ends) or complete > _MOST
        if complete > _MOST:
            complete = _MOST
            until = max(found[complete - 1][0], self.position)
        events = []
        for position, event in found[:complete]:
            self._first[position.shard] = _first_after(position, position.shard)
            events.append(unpack_event(position, event))
        self._come_to(until)
        return Batch(events, is_lost=False, more=more)

    def _ask(self, shards: Sequence[str], keys: KeySet) -> asyncio.Future[Any]:
        is_between_ms = self.position == EventId.before(self.position.ms + 1)
        return self._pipeline.ask(
            scripts.READ,
            keys,
            (
                _LEAST,
                max(_LEAST * len(shards), _MOST // len(self._groups)),
                self.position.ms + is_between_ms,
                *(self._first[shard] for shard in shards),
            ),
        )

    def _come_to(self, position: EventId) -> None:
        self.position = position
        for shard, first in self._first.items():
            if first is _FROM_NOW:
                self._first[shard] = _first_after(position, shard)

    def _is_known(self, earliest: int, latest: int) -> bool:
        """Tell whether the position is not in the future, nor too long ago to have left a trace."""
        return earliest - MAX_RETENTION_MS < self.position.ms <= latest


def _grouped(
    shards: Sequence[str], pipeline: Pipeline, keys: Keys, script: Script
) -> list[tuple[Sequence[str], KeySet]]:
    """Put together the shards of which one call can have the keys."""
    size = _TOGETHER if pipeline.spans_shards else 1
    parts = [shards[n : n + size] for n in range(0, len(shards), size)]
    return [(part, keys.of_shards(script.keys, part)) for part in parts]


def _fair_share(sizes: Iterable[int], total: int) -> int:
    """Return the most that each may have of a total, where those that need less leave the rest."""
    left = total
    ascending = sorted(sizes)
    for n, size in enumerate(ascending):
        share = left // (len(ascending) - n)
        if size > share:
            return share
        left -= size
    return total


def _id(entry: bytes, shard: str) -> EventId:
    ms, _, number = entry.partition(b"-")
    return EventId(int(ms), shard, int(number))


def _first_after(position: EventId, shard: str) -> bytes:
    """Return the first id that an entry of a shard can have after a position."""
    if shard > position.shard:
        return b"%d" % position.ms
    if shard < position.shard or position.number == LAST_NUMBER:
        return b"%d" % (position.ms + 1)
    return b"%d-%d" % (position.ms, position.number + 1)
