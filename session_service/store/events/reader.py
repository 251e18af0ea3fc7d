"""Reads the outbox on: the streams of some shards, merged in one order.

Each shard has a cursor (``cursor.py``). The store's clock only decides in which order the shards'
events are given out: a reply comes with the clock of its server, and has all that happened there
before; so what is older than every clock is complete. That holds in a cluster, too, whose clocks
differ a little: the one that is behind counts.

A client names a position instead, a moment of the store's clock (``past.py`` tells what that is
worth). The cursors of a reader that starts there are found by its first reading.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from session_service.domain.budgets import EVENTS_A_TURN
from session_service.domain.errors import StoreUnavailable
from session_service.domain.events import Event, EventId
from session_service.store.events.cursor import LEAST, Cursor, Entry, Found, Reply
from session_service.store.events.past import Doubt
from session_service.store.records import unpack_event
from session_service.store.scripts.events import ReadArguments, ReadReply
from session_service.store.shards import ShardGroups

if TYPE_CHECKING:
    from session_service.store.events.outbox import Outbox

_MOST_OF_CALL = 250  # events in one call, about: 1 ms of Redis
_MOST = 2000  # events in one read, about


class Batch(NamedTuple):
    """What a read found.

    Of ``lost`` shards the outbox does not have all that follows, or never had it; the reader goes
    on from now there. ``more`` tells that it has not come to the end.
    """

    events: list[Event]
    lost: frozenset[str]
    more: bool


class Reader:
    """Reads on. All events up to ``position`` were given out; of some shards more is kept."""

    def __init__(self, outbox: "Outbox", shards: Sequence[str], after: EventId | None) -> None:
        self.position = EventId.before(0) if after is None else after
        self._outbox = outbox
        self.cursors = {shard: Cursor(shard, after, outbox.pasts.get(shard)) for shard in shards}
        self._calls: ShardGroups[ReadArguments, ReadReply] | None = None
        self._lost: set[str] = set()  # to be told with the next batch

    async def read(self, wants: Callable[[Event], bool] | None = None) -> Batch:
        """Read what comes next, in order, of what is wanted; nothing twice, without a gap.

        Raises StoreUnavailable, also if no shard can be read at the start. It can be called again
        then, and when it was cancelled.
        """
        while await self._fill():  # shards that are lost are read again at once, from now on
            pass
        until = self._complete_until()
        entries = self._ready(until)
        events = await self._decode(entries, wants)
        return self._give_out(entries, events, until)

    def take_over(self, other: "Reader") -> bool:
        """Go on for another reader, too, unless that is behind in a shard."""
        for shard, cursor in other.cursors.items():
            mine = self.cursors.get(shard)
            if mine is not None and mine.given_out > cursor.given_out:
                return False
        self.cursors = {**other.cursors, **self.cursors}
        self._calls = None
        return True

    def keep(self, shards: Iterable[str]) -> None:
        """Read no others from now on."""
        wanted = set(shards)
        if not self.cursors.keys() <= wanted:
            self.cursors = {s: cursor for s, cursor in self.cursors.items() if s in wanted}
            self._calls = None

    def given_out(self) -> dict[str, EventId]:
        """Return the last event of each shard that was given out, or where reading began."""
        return {shard: cursor.given_out for shard, cursor in self.cursors.items()}

    def has_passed(self, given_out: dict[str, EventId]) -> bool:
        """Whether it has given out as much as another reader had."""
        cursors = self.cursors
        return all(
            shard not in cursors or cursors[shard].given_out >= position
            for shard, position in given_out.items()
        )

    async def _fill(self) -> bool:
        """Ask for what follows in every shard that has little ahead; return whether one is lost."""
        cursors = self.cursors
        asked = [shard for shard, cursor in cursors.items() if cursor.is_wanted]
        replies = await self._ask()
        is_lost = self._take_in(replies, cursors)
        for shard in set(asked).difference(*(reply.pasts for reply in replies)):
            cursors[shard].is_away = True  # it cannot be read for now; the others are not held up
        if without := [shard for reply in replies for shard in reply.without_past]:
            await self._outbox.begin(without)
        await self._outbox.settle()
        return is_lost

    async def _ask(self) -> list[Reply]:
        """Return replies by which it is known which positions are doubtful."""
        if self._calls is None:
            self._calls = self._outbox.read_calls(tuple(self.cursors))
        while True:
            sent = asyncio.get_running_loop().time()
            replies = await self._calls.run(self._arguments, Reply.of)
            backwards = [self._outbox.watch(r.pasts, r.clock, sent) for r in replies]
            await self._outbox.settle()
            if not any(backwards):
                return replies

    def _take_in(self, replies: list[Reply], cursors: dict[str, Cursor]) -> bool:
        """Move the cursors on; return whether events of one are missing, which is told later."""
        clocks = [reply.clock for reply in replies]
        is_lost = False
        for reply in replies:
            now = EventId.before(reply.clock)
            for shard, past in reply.pasts.items():
                cursor, news = cursors[shard], reply.news.get(shard)
                if news is None and cursor.stays(past, now):
                    continue
                if cursor.is_away:  # others went on meanwhile, and gave out positions
                    self._outbox.doubt((shard,), Doubt(cursor.known.ms, reply.clock))
                self._outbox.saw(shard, past, reply.clock)
                found = Found(past, *(news[1:] if news else ()))
                if cursor.is_lost(found, min(clocks), max(clocks)):
                    cursor.start_from_now()
                    self._lost.add(shard)
                    is_lost = True
                else:
                    cursor.receive(found, now)
        return is_lost

    def _arguments(self, shards: Sequence[str]) -> ReadArguments:
        calls = -(-len(self.cursors) // len(shards))
        most = max(LEAST * len(shards), min(_MOST // calls, _MOST_OF_CALL))
        cursors = (self.cursors.get(shard) for shard in shards)
        starts = (c.start if c is not None and c.is_wanted else b"" for c in cursors)
        return ReadArguments(LEAST, most, tuple(starts))

    def _complete_until(self) -> EventId:
        """Return up to where every shard that can be read is complete."""
        present = [cursor.known for cursor in self.cursors.values() if not cursor.is_away]
        if not present and self.position.ms < 0:
            raise StoreUnavailable(f"shard {next(iter(self.cursors))} cannot be read")
        return min(present, default=self.position)

    def _ready(self, until: EventId) -> list[Entry]:
        """Return what can be given out, in order."""
        ready = chain.from_iterable(c.up_to(until) for c in self.cursors.values())
        return sorted(ready)[:_MOST]

    async def _decode(
        self, entries: list[Entry], wants: Callable[[Event], bool] | None
    ) -> list[Event]:
        """Decode events, in short turns: others are to be served meanwhile."""
        events = []
        for n, entry in enumerate(entries, 1):
            try:
                event = unpack_event(entry.position, entry.event)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others go on
                self._outbox.skipped(entry.position, error)
                continue
            if wants is None or wants(event):
                events.append(event)
            if n % EVENTS_A_TURN == 0:
                await asyncio.sleep(0)
        return events

    def _give_out(self, entries: list[Entry], events: list[Event], until: EventId) -> Batch:
        """Move on behind these entries; nothing waits in here, so it happens as a whole."""
        for entry in entries:
            self.cursors[entry.position.shard].give_out(entry)
        is_full = len(entries) == _MOST
        self.position = entries[-1].order if is_full else until
        more = is_full or any(cursor.has_more for cursor in self.cursors.values())
        lost, self._lost = frozenset(self._lost), set()
        return Batch(events, lost, more)
