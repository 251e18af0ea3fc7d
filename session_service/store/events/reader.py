"""Readers of the outbox: the streams of some shards, merged into one order.

Each shard has a cursor (``cursor.py``). The store's clock only decides the order in which events of
different shards are delivered. A reply comes with the clock of its server, and contains everything
that happened there before. So the events that are older than every clock are complete. This also
holds in a cluster, in which clocks differ a little: the slowest clock counts.

A client names a position instead, which is a moment of the store's clock (``past.py`` decides if it
still is valid). The first read of a reader that starts there places its cursors.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from session_service.domain.budgets import EVENTS_PER_TURN
from session_service.domain.errors import StoreUnavailable
from session_service.domain.events import Event, EventId
from session_service.domain.ids import SHARDS
from session_service.store.events.cursor import MIN_EVENTS, Cursor, Entry, Reply, ShardReply
from session_service.store.events.outbox import Outbox
from session_service.store.events.past import Doubt
from session_service.store.records import unpack_event
from session_service.store.scripts.events import ReadArguments, ReadReply
from session_service.store.shards import ShardGroups

_MAX_EVENTS_OF_CALL = 250  # about: 1 ms of Redis
_MAX_EVENTS = 2000  # of one read, about


class Batch(NamedTuple):
    """The events that a read found, in order."""

    events: list[Event]
    lost: frozenset[str]  # shards that lack events; the reader continues there from now on
    more: bool  # whether there certainly are more


class Reader:
    """Reads events of some shards in order, from after a position, or from now.

    All events up to ``position`` were delivered. Some shards have been read further; their events
    wait in the buffers of the cursors.
    """

    def __init__(
        self, outbox: Outbox, shards: Sequence[str] = SHARDS, after: EventId | None = None
    ) -> None:
        self.position = EventId.before(0) if after is None else after
        self._outbox = outbox
        self.cursors = {shard: Cursor(shard, after, outbox.pasts.get(shard)) for shard in shards}
        self._calls: ShardGroups[ReadArguments, ReadReply] | None = None
        self._lost: set[str] = set()  # shards, for the next batch

    async def read(self, matches: Callable[[Event], bool] | None = None) -> Batch:
        """Read the next events, without a gap or a repeat; return those that match.

        Raises StoreUnavailable, also if no shard can be read at the start. It can be called again
        after that, and after it was cancelled.
        """
        while await self._fill_buffers():  # shards with a gap are read again at once, from now on
            pass
        until = self._complete_until()
        entries = self._ready(until)
        events = await self._decode(entries, matches)
        return self._deliver(entries, events, until)

    def merge(self, other: "Reader") -> bool:
        """Read the shards of another reader, too; return False if that is behind in a shard."""
        for shard, cursor in other.cursors.items():
            own = self.cursors.get(shard)
            if own is not None and own.delivered > cursor.delivered:
                return False
        self.cursors = {**other.cursors, **self.cursors}
        self._calls = None
        return True

    def restrict_to(self, shards: Iterable[str]) -> None:
        """Read no other shards from now on."""
        names = set(shards)
        if not self.cursors.keys() <= names:
            self.cursors = {s: cursor for s, cursor in self.cursors.items() if s in names}
            self._calls = None

    def delivered(self) -> dict[str, EventId]:
        """Return the last delivered event of each shard, or the start if there is none."""
        return {shard: cursor.delivered for shard, cursor in self.cursors.items()}

    def has_delivered(self, delivered: dict[str, EventId]) -> bool:
        """Return whether this reader has delivered everything that another reader had."""
        cursors = self.cursors
        return all(
            shard not in cursors or cursors[shard].delivered >= position
            for shard, position in delivered.items()
        )

    async def _fill_buffers(self) -> bool:
        """Read more of each shard that has few events; return whether one has a gap."""
        cursors = self.cursors
        asked = [shard for shard, cursor in cursors.items() if cursor.needs_events]
        replies = await self._fetch()
        has_gap = self._receive(replies, cursors)
        for shard in set(asked).difference(*(reply.pasts for reply in replies)):
            cursors[shard].is_unreadable = True  # for now; the other shards do not wait for it
        if without := [shard for reply in replies for shard in reply.without_past]:
            await self._outbox.begin_pasts(without)
        await self._outbox.write_doubts()
        return has_gap

    async def _fetch(self) -> list[Reply]:
        """Run the calls, until in none of their replies a clock has gone back.

        So the doubtful positions are known before the replies are used.
        """
        if self._calls is None:
            self._calls = self._outbox.read_calls(tuple(self.cursors))
        while True:
            sent = asyncio.get_running_loop().time()
            replies = await self._calls.run(self._arguments, Reply.of)
            went_back = [self._outbox.check_clock(r.pasts, r.clock, sent) for r in replies]
            await self._outbox.write_doubts()
            if not any(went_back):
                return replies

    def _receive(self, replies: list[Reply], cursors: dict[str, Cursor]) -> bool:
        """Move the cursors; return whether one has a gap, which the next batch reports."""
        clocks = [reply.clock for reply in replies]
        has_gap = False
        for reply in replies:
            now = EventId.before(reply.clock)
            for shard, past in reply.pasts.items():
                cursor, news = cursors[shard], reply.news.get(shard)
                if news is None and cursor.advance_if_unchanged(past, now):
                    continue
                if cursor.is_unreadable:  # clients got positions meanwhile
                    self._outbox.doubt((shard,), Doubt(cursor.complete_until.ms, reply.clock))
                self._outbox.compare_past(shard, past, reply.clock)
                of_shard = ShardReply(past, *(news[1:] if news else ()))
                if cursor.has_gap(of_shard, min(clocks), max(clocks)):
                    cursor.restart_from_now()
                    self._lost.add(shard)
                    has_gap = True
                else:
                    cursor.receive(of_shard, now)
        return has_gap

    def _arguments(self, shards: Sequence[str]) -> ReadArguments:
        calls = -(-len(self.cursors) // len(shards))
        max_events = max(MIN_EVENTS * len(shards), min(_MAX_EVENTS // calls, _MAX_EVENTS_OF_CALL))
        cursors = (self.cursors.get(shard) for shard in shards)
        starts = (c.start if c is not None and c.needs_events else b"" for c in cursors)
        return ReadArguments(MIN_EVENTS, max_events, tuple(starts))

    def _complete_until(self) -> EventId:
        """Return the position up to which every readable shard is complete."""
        readable = [c.complete_until for c in self.cursors.values() if not c.is_unreadable]
        if not readable and self.position.ms < 0:
            raise StoreUnavailable(f"shard {next(iter(self.cursors))} cannot be read")
        return min(readable, default=self.position)

    def _ready(self, until: EventId) -> list[Entry]:
        """Return the events that can be delivered, in order."""
        ready = chain.from_iterable(cursor.until(until) for cursor in self.cursors.values())
        return sorted(ready)[:_MAX_EVENTS]

    async def _decode(
        self, entries: list[Entry], matches: Callable[[Event], bool] | None
    ) -> list[Event]:
        """Decode events, with pauses in which other tasks run."""
        events = []
        for n, entry in enumerate(entries, 1):
            try:
                event = unpack_event(entry.position, entry.event)
            except Exception as error:  # noqa: BLE001 - a defect in one must not stop the others
                self._outbox.skip(entry.position, error)
                continue
            if matches is None or matches(event):
                events.append(event)
            if n % EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
        return events

    def _deliver(self, entries: list[Entry], events: list[Event], until: EventId) -> Batch:
        """Move behind these entries. It does not wait, so it is done as a whole or not at all."""
        for entry in entries:
            self.cursors[entry.position.shard].discard_first(entry)
        is_full = len(entries) == _MAX_EVENTS
        self.position = entries[-1].order if is_full else until
        more = is_full or any(cursor.has_more for cursor in self.cursors.values())
        lost, self._lost = frozenset(self._lost), set()
        return Batch(events, lost, more)
