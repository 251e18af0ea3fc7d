"""The outbox, read and bounded: what happened to all sessions, or those of some shards, in order.

Each shard has a stream of its own. Their events are merged in the order of their ids, which start
with the store's time. A read comes back with a shard's clock, and has all that happened there
before: so what is older than every shard's clock is complete, and can be told in order. That holds
in a cluster, too, whose clocks differ a little: the one that is behind counts.

Events that come late all the same, for a clock was set back, are told when they come.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from session_service.domain.events import LAST_NUMBER, MAX_RETENTION_MS, Event, EventId, EventPolicy
from session_service.domain.ids import SHARDS
from session_service.store import scripts
from session_service.store.keys import Keys, KeySet
from session_service.store.pipeline import Pipeline
from session_service.store.quarantine import Quarantine
from session_service.store.records import unpack_event
from session_service.store.scripts import Script
from session_service.store.shards import ShardGroups

_TOGETHER = 32  # shards read, or trimmed, in one call, where they can be
_TRIMMED = 1000  # events of a shard in one call
_LEAST = 8  # events that a shard may have of a call's, whatever the others have
_MOST_OF_CALL = 250  # events in one call, about: 1 ms of Redis
_MOST = 2000  # events in one read, about

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

    def __init__(
        self, pipeline: Pipeline, keys: Keys, quarantine: Quarantine | None = None
    ) -> None:
        self.quarantine = Quarantine() if quarantine is None else quarantine
        self._pipeline = pipeline
        self._keys = keys
        self._trim = ShardGroups(pipeline, keys, scripts.TRIM, self.quarantine, together=_TOGETHER)
        self._lengths = dict.fromkeys(SHARDS, 0)  # as it was last seen

    async def trim(self, policy: EventPolicy) -> None:
        """Bound it, about, by age and by length: the shards with most have to give.

        Raises StoreUnavailable.
        """
        most = _fair_share(self._lengths.values(), policy.max_length)
        arguments = (most, policy.retention_ms, MAX_RETENTION_MS, _TRIMMED)
        busy: Sequence[str] = SHARDS
        while busy:
            trimmed: dict[str, int] = {}
            for n in range(0, len(busy), _TOGETHER):  # one call at a time: each can take 5 ms
                for lengths, counts in await self._trim.run(
                    arguments, _lengths_and_counts, busy[n : n + _TOGETHER]
                ):
                    self._lengths.update(lengths)
                    trimmed.update(counts)
            busy = [shard for shard, events in trimmed.items() if events >= _TRIMMED // 2]

    def reader(self, shards: Sequence[str] = SHARDS, after: EventId | None = None) -> "Reader":
        """Make a reader of some shards that starts after a position, or now."""
        return Reader(self._pipeline, self._keys, shards, after)


class Reader:
    """Reads on. All events up to ``position`` were read; of some shards more, which is kept."""

    def __init__(
        self, pipeline: Pipeline, keys: Keys, shards: Sequence[str], after: EventId | None
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._is_checked = after is None  # whether the outbox can know the position
        self.position = EventId.before(0) if after is None else after
        self._shards: dict[str, _Shard] = {}
        self._groups: list[tuple[Sequence[str], KeySet]] = []  # shards that are read by one call
        self.read_from(shards)
        if after is None:
            self._start_from_now()

    def read_from(self, shards: Sequence[str]) -> None:
        """Read from these shards in the future, those that are new to it from the position on."""
        self._shards = {s: self._shards.get(s) or _Shard(s, self.position) for s in shards}
        self._groups = _grouped(shards, self._pipeline, self._keys, scripts.READ)

    async def read(self) -> Batch:
        """Read what comes next, in order; nothing twice, and without a gap.

        Raises StoreUnavailable, and can be called again then.
        """
        groups = [
            group for group in self._groups if any(self._shards[s].is_wanted for s in group[0])
        ]
        skipped = [shard for shard in self._shards.values() if not shard.is_wanted]
        replies = await asyncio.gather(*(self._ask(*group, len(groups)) for group in groups))
        clocks, is_lost = [], False
        for (names, _), (seconds, microseconds, *told) in zip(groups, replies, strict=True):
            clocks.append(int(seconds) * 1000 + int(microseconds) // 1000)
            for shard in (self._shards[name] for name in names):
                if shard.is_wanted:
                    shard.is_cut, shard.known = False, max(shard.known, EventId.before(clocks[-1]))
            for number, how, entries in zip(told[::3], told[1::3], told[2::3], strict=True):
                is_lost = is_lost or how == b"gone"
                self._shards[names[number]].has(entries, is_cut=how == b"more")
        is_lost = is_lost or not (self._is_checked or self._is_known(min(clocks), max(clocks)))
        self._is_checked = True
        if is_lost:
            self._start_from_now()
            self._come_to(EventId.before(min(clocks)))
            return Batch([], is_lost=True, more=False)

        shards = self._shards.values()
        until = max(min(shard.known for shard in shards), self.position)
        found = sorted(entry for shard in shards for entry in shard.up_to(until))
        if len(found) > _MOST:
            found = found[:_MOST]
            until = found[-1][0]
        for shard in shards:
            shard.forget(until)
        self._come_to(max(until, self.position))
        more = bool(skipped) or any(shard.is_cut for shard in shards) or len(found) == _MOST
        return Batch([unpack_event(*entry) for entry in found], is_lost=False, more=more)

    def _ask(self, shards: Sequence[str], keys: KeySet, in_calls: int) -> asyncio.Future[list[Any]]:
        is_between_ms = self.position == EventId.before(self.position.ms + 1)
        firsts = [self._shards[s].first if self._shards[s].is_wanted else b"" for s in shards]
        most = max(_LEAST * len(shards), min(_MOST // in_calls, _MOST_OF_CALL))
        read_until = self.position.ms + is_between_ms
        return self._pipeline.ask(scripts.READ, keys, (_LEAST, most, read_until, *firsts))

    def _start_from_now(self) -> None:
        for shard in self._shards.values():
            shard.first, shard.is_cut = _FROM_NOW, False
            shard.ahead.clear()

    def _come_to(self, position: EventId) -> None:
        self.position = position
        for shard in self._shards.values():
            if shard.first is _FROM_NOW:
                shard.first, shard.known = _first_after(position, shard.name), position

    def _is_known(self, earliest: int, latest: int) -> bool:
        """Tell whether the position is not in the future, nor too long ago to have left a trace."""
        return earliest - MAX_RETENTION_MS < self.position.ms <= latest


class _Shard:
    """What a reader knows of a shard's events: read ahead, for others have not come as far."""

    __slots__ = ("ahead", "first", "is_cut", "known", "name")

    def __init__(self, name: str, position: EventId) -> None:
        self.name = name
        self.first = _first_after(position, name)  # the first entry that was not read
        self.known = position  # all up to here were read
        self.ahead: list[tuple[EventId, bytes]] = []
        self.is_cut = False  # whether there were more than it could be given

    @property
    def is_wanted(self) -> bool:
        """Whether to ask for more: of those that are far ahead the others are waited for."""
        return not self.ahead or (not self.is_cut and len(self.ahead) < _LEAST)

    def has(self, entries: list[tuple[bytes, list[bytes]]], *, is_cut: bool) -> None:
        """Take what was found."""
        for entry_id, (_, event) in entries:
            ms, _, number = entry_id.partition(b"-")
            self.ahead.append((EventId(int(ms), self.name, int(number)), event))
        if self.ahead:
            last = self.ahead[-1][0]
            self.first = _first_after(last, self.name)
            self.known = last if is_cut else max(self.known, last)
        self.is_cut = is_cut

    def up_to(self, position: EventId) -> Iterator[tuple[EventId, bytes]]:
        """Return what is ahead up to a position."""
        return takewhile(lambda entry: entry[0] <= position, self.ahead)

    def forget(self, position: EventId) -> None:
        """Let go of what is ahead up to a position."""
        if self.ahead:
            self.ahead = [entry for entry in self.ahead if entry[0] > position]


def _grouped(
    shards: Sequence[str], pipeline: Pipeline, keys: Keys, script: Script
) -> list[tuple[Sequence[str], KeySet]]:
    """Put together the shards of which one call can have the keys."""
    size = _TOGETHER if pipeline.spans_shards else 1
    parts = [shards[n : n + size] for n in range(0, len(shards), size)]
    return [(part, keys.of_shards(script.keys, part)) for part in parts]


def _lengths_and_counts(shards: Sequence[str], reply: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many events each shard has left, and how many were trimmed (lua/trim.lua)."""
    lengths = dict(zip(shards, reply[::2], strict=True))
    return lengths, dict(zip(shards, reply[1::2], strict=True))


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


def _first_after(position: EventId, shard: str) -> bytes:
    """Return the first id that an entry of a shard can have after a position."""
    if shard > position.shard:
        return b"%d" % position.ms
    if shard < position.shard or position.number == LAST_NUMBER:
        return b"%d" % (position.ms + 1)
    return b"%d-%d" % (position.ms, position.number + 1)
