"""Cursors: how far a reader has come in the stream of one shard.

A cursor stands behind the last entry that was read. The next entries are found from there even if
the store's clock goes back, because the ids of a stream always grow. A cursor that starts at a
position, which is a moment of the clock, has no such entry until the first reply.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from session_service.domain.events import LAST_NUMBER, MAX_RETENTION_MS, EventId
from session_service.store.events.past import Past, first_ms
from session_service.store.scripts.events import ReadReply, ShardNews

MIN_EVENTS = 8  # that a call may read of a shard, also if the others have many

_FROM_NOW, _FROM_BEGINNING = b"$", b">0-0"  # see lua/events/read.lua
_NOT_READ = b"-"


class Entry(NamedTuple):
    """An event as it was read. ``order`` is its position, unless that lies in the future."""

    order: EventId
    position: EventId
    event: bytes


class ShardReply(NamedTuple):
    """The part of a reply that is about one shard (lua/events/read.lua)."""

    past: Past | None
    flags: bytes = b""  # e.g. b"missing more"
    last: bytes | None = None  # the last entry before those, if there is one
    entries: Sequence[Any] = ()


class Reply(NamedTuple):
    """A reply to a call that reads several shards."""

    clock: int  # of the store, epoch ms
    pasts: dict[str, Past | None]  # of the shards that were read
    news: dict[str, ShardNews]  # of the shards that have any

    @property
    def without_past(self) -> list[str]:
        """The shards without a past."""
        if None not in self.pasts.values():
            return []
        return [shard for shard, past in self.pasts.items() if past is None]

    @classmethod
    def of(cls, shards: Sequence[str], reply: ReadReply) -> "Reply":
        """Name the shards in the reply to a call."""
        pasts = {
            shard: Past.parse(past)
            for shard, past in zip(shards, reply.pasts, strict=True)
            if past != _NOT_READ
        }
        return cls(reply.clock, pasts, {shards[news.number]: news for news in reply.news})


class Cursor:
    """How far a shard was read, and the events that were read and not delivered yet."""

    __slots__ = (
        "_buffer",
        "_last_clock",
        "_past",
        "_shard",
        "_unverified",
        "complete_until",
        "delivered",
        "is_truncated",
        "is_unreadable",
        "start",
    )

    def __init__(self, shard: str, after: EventId | None, past: Past | None) -> None:
        self._shard = shard
        self._buffer: deque[Entry] = deque()
        self._last_clock = EventId.before(0)  # of the last reply
        self._unverified = after  # a client's position, until the shard is known to cover it
        self._past = None if after is None else past
        self.is_unreadable = False  # whether the last attempt to read the shard failed
        self.is_truncated = False  # whether the last reply left events out
        self.delivered = EventId(0, shard, 0)  # the last event that was
        self.complete_until = EventId.before(0) if after is None else after
        self.start = _FROM_NOW  # of the next read, see lua/events/read.lua
        if after is None:
            return
        if after.shard == shard and after.number < LAST_NUMBER:
            self._move_behind(after)
        else:
            self.start = b"?" + _first_after(after, shard)

    @property
    def needs_events(self) -> bool:
        """Whether to read more. If the buffer is full enough, the other shards are waited for."""
        return not self._buffer or (not self.is_truncated and len(self._buffer) < MIN_EVENTS)

    @property
    def has_more(self) -> bool:
        """Whether there certainly are more events to deliver."""
        return not self.is_unreadable and (self.is_truncated or not self.needs_events)

    def advance_if_unchanged(self, past: Past | None, now: EventId) -> bool:
        """Note that there are no events before ``now``, as in most replies.

        Returns False, and does nothing, if this cannot be seen from an empty reply.
        """
        if past is not self._past or past is None or self.is_unreadable or now < self._last_clock:
            return False
        if self._unverified is not None or self.start[:1] in b"?$":
            return False
        self._last_clock, self.is_truncated = now, False
        self.complete_until = max(self.complete_until, now)
        return True

    def has_gap(self, reply: ShardReply, earliest: int, latest: int) -> bool:
        """Return whether events are missing between the cursor and a reply.

        ``earliest`` and ``latest`` are the clocks of all replies, in epoch ms.
        """
        past, known = reply.past, self._past
        if self.is_unreadable:
            return True
        if past is None:
            return known is not None or self._unverified is not None
        if known is not None and past.epoch != known.epoch:
            return True
        is_missing = b"missing" in reply.flags
        if self._unverified is not None:
            is_possible = earliest - MAX_RETENTION_MS < self._unverified.ms <= latest
            return is_missing or not (is_possible and past.covers(self._unverified, self._shard))
        if is_missing and past.gone <= _position(self.start[1:], self._shard).ms:
            return True  # the entry was not trimmed
        is_trimmed = is_missing or (known is not None and past.gone != known.gone)
        return is_trimmed and past.gone > first_ms(self.complete_until, self._shard)

    def receive(self, reply: ShardReply, now: EventId) -> None:
        """Move behind the entries of a reply; ``now`` is the position of the clock."""
        if now < self._last_clock:
            self._follow_clock_back(now)
        self._last_clock, self._past, self._unverified = now, reply.past, None
        latest = EventId(now.ms + 1, self._shard, LAST_NUMBER)
        if self.start[:1] in b"?$":
            self._move_behind(_position(reply.last, self._shard) if reply.last else None)
        elif b"missing" in reply.flags:
            self.start = b">" + self.start[1:]
        for entry_id, fields in reply.entries:
            position = _position(entry_id, self._shard)
            order = min(position, latest)
            if self._buffer:
                order = max(order, self._buffer[-1].order)
            self._buffer.append(Entry(order, position, fields[1] if len(fields) == 2 else b""))
            self.start = b"=" + entry_id
        self.is_truncated = b"more" in reply.flags
        if not self.is_truncated:
            self.complete_until = max(self.complete_until, now)
        if self._buffer:
            self.complete_until = max(self.complete_until, self._buffer[-1].order)

    def restart_from_now(self) -> None:
        """Drop the buffer, and continue with events that happen from the next read on."""
        self.start, self._past, self._unverified = _FROM_NOW, None, None
        self.complete_until = EventId.before(0)
        self.is_unreadable = self.is_truncated = False
        self._buffer.clear()

    def until(self, position: EventId) -> Iterator[Entry]:
        """Return the buffered events up to a position."""
        return takewhile(lambda entry: entry.order <= position, self._buffer)

    def discard_first(self, entry: Entry) -> None:
        """Remove the first event from the buffer: it is delivered."""
        self._buffer.popleft()
        self.delivered = entry.position

    def _move_behind(self, last: EventId | None) -> None:
        """Continue behind an entry, or from the beginning of the stream."""
        self.delivered = last or EventId(0, self._shard, 0)
        self.start = b"=%d-%d" % (last.ms, last.number) if last else _FROM_BEGINNING

    def _follow_clock_back(self, now: EventId) -> None:
        """Follow a clock that went back: buffered events need not wait until it has caught up."""
        latest = EventId(now.ms + 1, self._shard, LAST_NUMBER)
        self._buffer = deque(e._replace(order=min(e.order, latest)) for e in self._buffer)
        self.complete_until = now


def _position(entry_id: bytes, shard: str) -> EventId:
    """Read an entry's id, e.g. ``1764000000000-0``."""
    ms, _, number = entry_id.partition(b"-")
    return EventId(int(ms), shard, int(number))


def _first_after(position: EventId, shard: str) -> bytes:
    """Return the first id that an entry of a shard can have after a position."""
    ms = first_ms(position, shard)
    is_same = ms == position.ms and shard == position.shard
    return b"%d-%d" % (ms, position.number + 1) if is_same else b"%d" % ms
