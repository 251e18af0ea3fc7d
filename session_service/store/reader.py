"""Reads the outbox on: the streams of some shards, merged in one order.

Each shard has a cursor, the last entry that was read of its stream. What comes behind it is found
whatever the store's clock does, for the ids of one stream always grow. The clock only decides in
which order the shards' events are given out: a reply comes with the clock of its server, and has
all that happened there before; so what is older than every clock is complete. That holds in a
cluster, too, whose clocks differ a little: the one that is behind counts.

A client names a position instead, a moment of the store's clock (``past.py`` tells what that is
worth). The cursors of a reader that starts there are found by its first reading.
"""

import asyncio
from collections import ChainMap, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from session_service.domain.budgets import EVENTS_A_TURN
from session_service.domain.errors import StoreUnavailable
from session_service.domain.events import LAST_NUMBER, MAX_RETENTION_MS, Event, EventId
from session_service.store.past import Doubt, Past, first_ms
from session_service.store.records import unpack_event
from session_service.store.shards import ShardGroups

if TYPE_CHECKING:
    from session_service.store.outbox import Outbox

_LEAST = 8  # events that a shard may have of a call's, whatever the others have
_MOST_OF_CALL = 250  # events in one call, about: 1 ms of Redis
_MOST = 2000  # events in one read, about
_FROM_NOW, _FROM_BEGINNING = b"$", b">0-0"  # see lua/read.lua
_NOT_ASKED = b"-"


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
        self.cursors = {shard: _Cursor(shard, after, outbox.pasts.get(shard)) for shard in shards}
        self._calls: ShardGroups | None = None
        self._lost: set[str] = set()  # to be told with the next batch

    async def read(self, wants: Callable[[Event], bool] | None = None) -> Batch:
        """Read what comes next, in order, of that what is wanted; nothing twice, without a gap.

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
        if self._calls is None:
            self._calls = self._outbox.read_calls(tuple(self.cursors))
        cursors = self.cursors
        asked = [shard for shard, cursor in cursors.items() if cursor.is_wanted]
        went_back = True
        while went_back:  # which positions are doubtful is known to the next reply
            sent = asyncio.get_running_loop().time()
            replies = await self._calls.run(self._arguments, _Reply.of)
            backwards = [self._outbox.watch(r.pasts, r.clock, sent) for r in replies]
            went_back = any(backwards)
            await self._outbox.settle()
        answered = ChainMap(*(reply.pasts for reply in replies))
        clocks = [reply.clock for reply in replies]
        is_lost, unfounded = False, []
        for reply in replies:
            now = EventId.before(reply.clock)
            for shard, past in reply.pasts.items():
                cursor, told = cursors[shard], reply.told.get(shard)
                if told is None and cursor.stays(past, now):
                    continue
                if cursor.is_away:  # others went on meanwhile, and gave out positions
                    self._outbox.doubt((shard,), Doubt(cursor.known.ms, reply.clock))
                if past is None:
                    unfounded.append(shard)
                self._outbox.saw(shard, past, reply.clock)
                found = _Found(past, *(told or ()))
                if cursor.is_lost(found, min(clocks), max(clocks)):
                    cursor.start_from_now()
                    self._lost.add(shard)
                    is_lost = True
                else:
                    cursor.receive(found, now)
        for shard in asked:
            if shard not in answered:  # it cannot be read for now; the others are not held up
                cursors[shard].is_away = True
        if unfounded:
            await self._outbox.begin(unfounded)
        await self._outbox.settle()
        return is_lost

    def _arguments(self, shards: Sequence[str]) -> tuple[bytes | int, ...]:
        calls = -(-len(self.cursors) // len(shards))
        most = max(_LEAST * len(shards), min(_MOST // calls, _MOST_OF_CALL))
        cursors = (self.cursors.get(shard) for shard in shards)
        return (_LEAST, most, *(c.start if c is not None and c.is_wanted else b"" for c in cursors))

    def _complete_until(self) -> EventId:
        """Return up to where every shard that can be read is complete."""
        present = [cursor.known for cursor in self.cursors.values() if not cursor.is_away]
        if not present and self.position.ms < 0:
            raise StoreUnavailable(f"shard {next(iter(self.cursors))} cannot be read")
        return min(present, default=self.position)

    def _ready(self, until: EventId) -> list["_Entry"]:
        """Return what can be given out, in order."""
        ready = chain.from_iterable(c.up_to(until) for c in self.cursors.values())
        return sorted(ready)[:_MOST]

    async def _decode(
        self, entries: list["_Entry"], wants: Callable[[Event], bool] | None
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

    def _give_out(self, entries: list["_Entry"], events: list[Event], until: EventId) -> Batch:
        """Move on behind these entries; nothing waits in here, so it happens as a whole."""
        for entry in entries:
            self.cursors[entry.position.shard].give_out(entry)
        is_full = len(entries) == _MOST
        self.position = entries[-1].order if is_full else until
        more = is_full or any(cursor.has_more for cursor in self.cursors.values())
        lost, self._lost = frozenset(self._lost), set()
        return Batch(events, lost, more)


class _Entry(NamedTuple):
    """An event as it was read. ``order`` is its position, unless that lies in the future."""

    order: EventId
    position: EventId
    event: bytes


class _Found(NamedTuple):
    """What a reply says of a shard (lua/read.lua)."""

    past: Past | None
    flags: bytes = b""
    last: bytes | None = None  # the last entry before those, if there is one
    entries: Sequence[Any] = ()


class _Reply(NamedTuple):
    """A reply of lua/read.lua."""

    clock: int
    pasts: dict[str, Past | None]  # of the shards that were asked
    told: dict[str, tuple[bytes, bytes, Sequence[Any]]]  # flags, the last entry before, entries

    @classmethod
    def of(cls, shards: Sequence[str], reply: Any) -> "_Reply":
        clock, pasts, *told = reply
        found = {
            shard: Past.parse(past)
            for shard, past in zip(shards, pasts.split(b","), strict=True)
            if past != _NOT_ASKED
        }
        names = [shards[number] for number in told[::4]]
        entries = zip(told[1::4], told[2::4], told[3::4], strict=True)
        return cls(clock, found, dict(zip(names, entries, strict=True)))


class _Cursor:
    """How far a shard was read, and what was read of it and not given out."""

    __slots__ = (
        "_ahead",
        "_clock",
        "_past",
        "_resumed",
        "_shard",
        "given_out",
        "is_away",
        "is_cut",
        "known",
        "start",
    )

    def __init__(self, shard: str, after: EventId | None, past: Past | None) -> None:
        self._shard = shard
        self._ahead: deque[_Entry] = deque()
        self._clock = EventId.before(0)  # of the last reply
        self._resumed = after  # a position that a client names, until it is known what it is worth
        self._past = None if after is None else past
        self.is_away = False  # whether it could not be read the last time
        self.is_cut = False  # whether there were more than it could be given
        self.given_out = EventId(0, shard, 0)
        self.known = EventId.before(0) if after is None else after  # all up to here were read
        self.start = _FROM_NOW  # see lua/read.lua
        if after is None:
            return
        if after.shard == shard and after.number < LAST_NUMBER:
            self._go_behind(after)
        else:
            self.start = b"?" + _first_after(after, shard)

    @property
    def is_wanted(self) -> bool:
        """Whether to ask for more: of those that are far ahead the others are waited for."""
        return not self._ahead or (not self.is_cut and len(self._ahead) < _LEAST)

    @property
    def has_more(self) -> bool:
        """Whether it is known that there is more to give out."""
        return not self.is_away and (self.is_cut or not self.is_wanted)

    def stays(self, past: Past | None, now: EventId) -> bool:
        """Whether nothing has happened, as in most readings; takes that all before now was read."""
        if past is not self._past or past is None or self.is_away or now < self._clock:
            return False
        if self._resumed is not None or self.start[:1] in b"?$":
            return False
        self._clock, self.is_cut = now, False
        self.known = max(self.known, now)
        return True

    def is_lost(self, found: _Found, earliest: int, latest: int) -> bool:
        """Whether events are missing between the cursor and what was found."""
        past, known = found.past, self._past
        if self.is_away:
            return True
        if past is None:
            return known is not None or self._resumed is not None
        if known is not None and past.epoch != known.epoch:
            return True
        is_missing = b"missing" in found.flags
        if self._resumed is not None:
            can_be = earliest - MAX_RETENTION_MS < self._resumed.ms <= latest
            return is_missing or not (can_be and past.covers(self._resumed, self._shard))
        if is_missing and past.gone <= _position(self.start[1:], self._shard).ms:
            return True  # the entry was not trimmed
        is_trimmed = is_missing or (known is not None and past.gone != known.gone)
        return is_trimmed and past.gone > first_ms(self.known, self._shard)

    def receive(self, found: _Found, now: EventId) -> None:
        """Take what was found; ``now`` is the position of the clock."""
        if now < self._clock:
            self._go_back(now)
        self._clock, self._past, self._resumed = now, found.past, None
        latest = EventId(now.ms + 1, self._shard, LAST_NUMBER)
        if self.start[:1] in b"?$":
            self._go_behind(_position(found.last, self._shard) if found.last else None)
        elif b"missing" in found.flags:
            self.start = b">" + self.start[1:]
        for entry_id, fields in found.entries:
            position = _position(entry_id, self._shard)
            order = min(position, latest)
            if self._ahead:
                order = max(order, self._ahead[-1].order)
            self._ahead.append(_Entry(order, position, fields[1] if len(fields) == 2 else b""))
            self.start = b"=" + entry_id
        self.is_cut = b"more" in found.flags
        if not self.is_cut:
            self.known = max(self.known, now)
        if self._ahead:
            self.known = max(self.known, self._ahead[-1].order)

    def start_from_now(self) -> None:
        """Give up what was to come, and go on with what happens from the next reading on."""
        self.start, self._past, self._resumed = _FROM_NOW, None, None
        self.known = EventId.before(0)
        self.is_away = self.is_cut = False
        self._ahead.clear()

    def up_to(self, position: EventId) -> Iterator[_Entry]:
        """Return what is ahead up to a position."""
        return takewhile(lambda entry: entry.order <= position, self._ahead)

    def give_out(self, entry: _Entry) -> None:
        """Let go of the first entry that is ahead."""
        self._ahead.popleft()
        self.given_out = entry.position

    def _go_behind(self, last: EventId | None) -> None:
        """Go on behind an entry, or from the beginning of the stream."""
        self.given_out = last or EventId(0, self._shard, 0)
        self.start = b"=%d-%d" % (last.ms, last.number) if last else _FROM_BEGINNING

    def _go_back(self, now: EventId) -> None:
        """Follow a clock that went back: nothing that is ahead need wait until it has caught up."""
        latest = EventId(now.ms + 1, self._shard, LAST_NUMBER)
        self._ahead = deque(e._replace(order=min(e.order, latest)) for e in self._ahead)
        self.known = now


def _position(entry_id: bytes, shard: str) -> EventId:
    ms, _, number = entry_id.partition(b"-")
    return EventId(int(ms), shard, int(number))


def _first_after(position: EventId, shard: str) -> bytes:
    """Return the first id that an entry of a shard can have after a position."""
    ms = first_ms(position, shard)
    is_same = ms == position.ms and shard == position.shard
    return b"%d-%d" % (ms, position.number + 1) if is_same else b"%d" % ms
