"""Events for any number of subscribers in this process, by one reader of the outbox.

A subscriber that starts at an earlier position catches up by a reader of its own, no faster than it
takes what it is given, and then joins the others. Both readers follow the one order of all events,
so where they meet there is no gap, and nothing comes twice.
"""

import asyncio
import logging
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from session_service.domain.errors import StoreUnavailable
from session_service.domain.events import Event, EventFilter, EventId
from session_service.store import availability
from session_service.store.availability import Availability
from session_service.store.events.outbox import Outbox
from session_service.store.events.reader import Batch, Reader
from session_service.store.events.turns import Turns

_INTERVAL_SECONDS = 0.1  # between looks for what is new
_MILLISECOND = 0.001
_BUFFERED = 1000  # events that may wait for a subscriber
_TURN = 64  # events that are delivered before the subscribers have their turn
_LONG_SECONDS = 3600.0  # a subscriber that has nothing else to do waits again after it

log = logging.getLogger(__name__)


class Reset(NamedTuple):
    """Stands for a gap: what happened before ``position`` may be missing; the rest follows."""

    position: EventId


class FellBehindError(Exception):
    """The subscriber did not take what it was given, and gets nothing more."""


class Feed:
    """Reads the outbox while somebody subscribes."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.turns = Turns()
        self._subscriptions: set[Subscription] = set()
        # Those that have joined, by the session or the user they ask for, so that an event is shown
        # to few that do not want it; and how many of them want each shard.
        self._joined: dict[str | None, dict[Subscription, None]] = defaultdict(dict)
        self._wanted: Counter[str] = Counter()
        self._newcomers: list[Subscription] = []  # that may have had what is read next
        self._reader: Reader | None = None
        self._reading: asyncio.Task[None] | None = None
        self._is_closed = False
        self.position = EventId.before(0)  # all up to here was delivered to those that have joined

    async def subscribe(
        self, event_filter: EventFilter, after: EventId | None = None, caller: str = ""
    ) -> "Subscription":
        """Subscribe to what happens from now on, or happened after a position.

        Of one ``caller``, such as an address, only a few catch up at a time. Raises
        StoreUnavailable. A subscription is to be closed when it is not wanted any more.
        """
        subscription = Subscription(self, event_filter, after, caller)
        await subscription.start()
        self._subscriptions.add(subscription)
        if self._is_closed:
            subscription.close()
        return subscription

    @property
    def subscribers(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions)

    def close(self) -> None:
        """Close all subscriptions, at once and for good."""
        self._is_closed = True
        for subscription in list(self._subscriptions):
            subscription.close()
        if self._reading is not None:
            self._reading.cancel()

    def join(self, subscription: "Subscription", reader: Reader) -> bool:
        """Take over a subscription that has come as far as its reader, if that is far enough."""
        if self._reader is None:
            self.position = reader.position
            self._reader = reader
            self._reading = asyncio.create_task(self._read(reader), name="feed")
        elif not self._reader.take_over(reader):
            return False
        self._joined[subscription.key][subscription] = None
        self._newcomers.append(subscription)
        self._wanted.update(subscription.shards)
        return True

    def leave(self, subscription: "Subscription") -> None:
        """Forget a subscription."""
        self._subscriptions.discard(subscription)
        others = self._joined[subscription.key]
        if subscription in others:
            del others[subscription]
            self._wanted.subtract(subscription.shards)
            self._wanted = +self._wanted
        if not others:
            del self._joined[subscription.key]

    async def _read(self, reader: Reader) -> None:
        store = Availability("feed")
        try:
            while self._wanted:
                reader.keep(self._wanted)
                try:
                    batch = await reader.read()
                except StoreUnavailable as error:
                    await store.wait_after(error)
                    continue
                store.answered()
                await self._deliver(batch, reader)
                if not batch.more:
                    await asyncio.sleep(_INTERVAL_SECONDS)
        except Exception:  # a defect; the streams end, and are resumed by their clients
            log.exception("defect in the feed")
            for subscription in list(self._subscriptions):
                subscription.close()
        finally:
            self._reader = self._reading = None
            self._newcomers.clear()

    async def _deliver(self, batch: Batch, reader: Reader) -> None:
        position = reader.position
        if batch.lost:
            log.warning("feed: events may be missing", extra={"shards": len(batch.lost)})
            self._reset(batch.lost, position)
        for n, event in enumerate(batch.events, 1):
            for key in (event.session_id, event.user_id, None):
                slow = [
                    subscription
                    for subscription in self._joined.get(key, ())
                    if subscription.filter.matches(event) and not subscription.put(event)
                ]
                for subscription in slow:
                    self.leave(subscription)
            if n % _TURN == 0:
                await asyncio.sleep(0)
        self.position = position
        self._newcomers = [each for each in self._newcomers if not each.has_met(reader)]

    def _reset(self, shards: frozenset[str], position: EventId) -> None:
        """Tell those who may miss events of these shards."""
        for subscriptions in list(self._joined.values()):
            for subscription in list(subscriptions):
                if not shards.isdisjoint(subscription.shards):
                    subscription.put(Reset(position))


class Subscription:
    """One subscriber's events, in order: to be taken, or iterated over."""

    def __init__(
        self, feed: Feed, event_filter: EventFilter, after: EventId | None, caller: str = ""
    ) -> None:
        self.filter = event_filter
        self.shards = event_filter.shards
        self.key = event_filter.session_id or event_filter.user_id
        self.is_closed = False
        self._feed = feed
        self._caller = caller
        self._reader: Reader | None = None  # of its own, until it joins
        self._had: dict[str, EventId] = {}  # by shard, what came before it joined
        self._has_joined = False
        self._after = after
        self._taken = self._since = after or EventId.before(0)  # all to here was taken, was put
        self._items: deque[Event | Reset] = deque()
        self._fell_behind = False
        self._news = asyncio.Event()

    async def start(self) -> None:
        """See that the store answers, and what it has to begin with."""
        await self._catch_up()
        if self._after is None:
            self._taken = self._since

    async def take(self, seconds: float) -> list[Event | Reset]:
        """Return what has come, or wait for it at most so long and return nothing.

        Returns nothing at once when it is closed. Raises FellBehindError when 1,000 events have
        waited and more came, once those were taken.
        """
        give_up = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(give_up):
                while not (self._items or self.is_closed or self._fell_behind):
                    if self._has_joined:
                        await self._news.wait()
                    else:
                        await self._catch_up()
        except TimeoutError:
            return []
        except StoreUnavailable:
            await availability.pause()
            return []
        if self._fell_behind and not self._items:
            raise FellBehindError
        items = list(self._items)
        self._taken = items[-1].position if items else self._taken
        self._items.clear()
        self._news.clear()
        return items

    @property
    def position(self) -> EventId:
        """From where to go on for who has had all that was taken."""
        if self._items:
            return self._taken
        return max(self._since, self._feed.position) if self._has_joined else self._since

    async def has_missed(self) -> bool:
        """Tell whether something has happened until now that is still to be taken.

        Raises StoreUnavailable.
        """
        if any(isinstance(item, Event) for item in self._items):
            return True
        reader = self._feed.outbox.reader(self.shards, self._since)
        now = None  # a read comes up to the millisecond before the one in which it happens
        while now is None or reader.position == now:
            async with self._feed.turns.of(self._caller):
                batch = await reader.read(self.filter.matches)
            if batch.events:
                return True
            if now is None and not batch.more:
                now = reader.position
            await asyncio.sleep(_MILLISECOND)
        return False

    async def __aiter__(self) -> AsyncIterator[Event | Reset]:
        while True:
            items = await self.take(_LONG_SECONDS)
            if not items and self.is_closed:
                return
            for item in items:
                yield item

    def put(self, item: Event | Reset) -> bool:
        """Let an item wait to be taken; false if too many wait already."""
        if self._had and isinstance(item, Event):
            had = self._had.get(item.position.shard)
            if had is not None and item.position <= had:
                return True
        if len(self._items) >= _BUFFERED:
            self._fell_behind = True
        else:
            self._items.append(item)
        self._news.set()
        return not self._fell_behind

    def close(self) -> None:
        """Want no more."""
        self.is_closed = True
        self._feed.leave(self)
        self._news.set()

    def has_met(self, reader: Reader) -> bool:
        """Whether the reader for all gives out nothing more that came before it joined."""
        if not self.is_closed and not reader.has_passed(self._had):
            return False
        self._had = {}
        return True

    async def _catch_up(self) -> None:
        async with self._feed.turns.of(self._caller):
            if self._reader is None:
                self._reader = self._feed.outbox.reader(self.shards, self._after)
            reader = self._reader
            batch = await reader.read(self.filter.matches)
        if batch.lost:
            self._items.append(Reset(reader.position))
        self._items.extend(batch.events)
        self._since = reader.position
        if batch.more or self.is_closed:
            return
        self._had = reader.given_out()
        if self._feed.join(self, reader):
            self._has_joined, self._reader = True, None
        else:
            await asyncio.sleep(_MILLISECOND)
