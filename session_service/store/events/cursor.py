"""How far a reader has come in the stream of one shard: behind the last entry that it has read.

What comes behind that is found whatever the store's clock does, for the ids of a stream always
grow. A cursor that starts at a position, a moment of the clock, has its entry from the first reply.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from session_service.domain.events import LAST_NUMBER, MAX_RETENTION_MS, EventId
from session_service.store.events.past import Past, first_ms
from session_service.store.scripts.events import ReadReply, ShardNews

LEAST = 8  # events that a shard may have of a call's, whatever the others have

_FROM_NOW, _FROM_BEGINNING = b"$", b">0-0"  # see lua/events/read.lua
_NOT_ASKED = b"-"


class Entry(NamedTuple):
    """An event as it was read. ``order`` is its position, unless that lies in the future."""

    order: EventId
    position: EventId
    event: bytes


class Found(NamedTuple):
    """What a reply says of a shard (lua/events/read.lua)."""

    past: Past | None
    flags: bytes = b""
    last: bytes | None = None  # the last entry before those, if there is one
    entries: Sequence[Any] = ()


class Reply(NamedTuple):
    """A reply of lua/events/read.lua."""

    clock: int
    pasts: dict[str, Past | None]  # of the shards that were asked
    news: dict[str, ShardNews]

    @property
    def without_past(self) -> list[str]:
        """The shards whose past has not begun."""
        if None not in self.pasts.values():
            return []
        return [shard for shard, past in self.pasts.items() if past is None]

    @classmethod
    def of(cls, shards: Sequence[str], reply: ReadReply) -> "Reply":
        """Name the shards in the reply of a call."""
        pasts = {
            shard: Past.parse(past)
            for shard, past in zip(shards, reply.pasts, strict=True)
            if past != _NOT_ASKED
        }
        return cls(reply.clock, pasts, {shards[news.number]: news for news in reply.news})


class Cursor:
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
        self._ahead: deque[Entry] = deque()
        self._clock = EventId.before(0)  # of the last reply
        self._resumed = after  # a position that a client names, until it is known what it is worth
        self._past = None if after is None else past
        self.is_away = False  # whether it could not be read the last time
        self.is_cut = False  # whether there were more than it could be given
        self.given_out = EventId(0, shard, 0)
        self.known = EventId.before(0) if after is None else after  # all up to here were read
        self.start = _FROM_NOW  # see lua/events/read.lua
        if after is None:
            return
        if after.shard == shard and after.number < LAST_NUMBER:
            self._go_behind(after)
        else:
            self.start = b"?" + _first_after(after, shard)

    @property
    def is_wanted(self) -> bool:
        """Whether to ask for more: of those that are far ahead the others are waited for."""
        return not self._ahead or (not self.is_cut and len(self._ahead) < LEAST)

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

    def is_lost(self, found: Found, earliest: int, latest: int) -> bool:
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

    def receive(self, found: Found, now: EventId) -> None:
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
            self._ahead.append(Entry(order, position, fields[1] if len(fields) == 2 else b""))
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

    def up_to(self, position: EventId) -> Iterator[Entry]:
        """Return what is ahead up to a position."""
        return takewhile(lambda entry: entry.order <= position, self._ahead)

    def give_out(self, entry: Entry) -> None:
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
