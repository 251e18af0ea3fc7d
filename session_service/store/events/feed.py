"""Events for any number of subscribers in this process, from one reader of the outbox.

A subscriber that starts at an earlier position catches up with a reader of its own, no faster than
it takes the events, and then joins the others. Both readers follow the one order of all events, so
there is no gap and no repeat when it joins.
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
from session_service.store.events.slots import CatchUpSlots

_INTERVAL_SECONDS = 0.1  # between reads that found no more events
_MILLISECOND = 0.001
_MAX_BUFFERED = 1000  # events that may wait for a subscriber
_TURN = 64  # events that are delivered before the subscribers run
_LONG_SECONDS = 3600.0  # a subscriber without another task waits again after that

log = logging.getLogger(__name__)


class Reset(NamedTuple):
    """A gap: events before ``position`` may be missing; those after it follow."""

    position: EventId


class FellBehindError(Exception):
    """The subscriber did not take its events in time, and gets no more."""


class Feed:
    """Reads the outbox while there are subscriptions."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.catch_up_slots = CatchUpSlots()
        self._subscriptions: set[Subscription] = set()
        # Those that have joined, by the session or the user in their filter, so that an event is
        # matched against few filters that do not select it.
        self._joined: dict[str | None, dict[Subscription, None]] = defaultdict(dict)
        self._shards: Counter[str] = Counter()  # the number of joined subscriptions to each
        self._newcomers: list[Subscription] = []  # that may have had some of the next events
        self._reader: Reader | None = None
        self._reading: asyncio.Task[None] | None = None
        self._is_closed = False
        self.position = EventId.before(0)  # all up to here was delivered to those that have joined

    async def subscribe(
        self, event_filter: EventFilter, after: EventId | None = None, caller: str = ""
    ) -> "Subscription":
        """Subscribe to the events from now on, or after a position; close it after use.

        Only two subscriptions of a ``caller``, e.g. of an address, catch up at a time. Raises
        StoreUnavailable.
        """
        subscription = Subscription(self, event_filter, after, caller)
        await subscription.start()
        self._subscriptions.add(subscription)
        if self._is_closed:
            subscription.close()
        return subscription

    @property
    def subscribers(self) -> int:
        """The number of subscriptions."""
        return len(self._subscriptions)

    def close(self) -> None:
        """Close all subscriptions, at once and for good."""
        self._is_closed = True
        for subscription in list(self._subscriptions):
            subscription.close()
        if self._reading is not None:
            self._reading.cancel()

    def join(self, subscription: "Subscription", reader: Reader) -> bool:
        """Serve a subscription from now on, which has caught up as far as its reader.

        Returns False if that is not far enough.
        """
        if self._reader is None:
            self.position = reader.position
            self._reader = reader
            self._reading = asyncio.create_task(self._read(reader), name="feed")
        elif not self._reader.merge(reader):
            return False
        self._joined[subscription.key][subscription] = None
        self._newcomers.append(subscription)
        self._shards.update(subscription.shards)
        return True

    def leave(self, subscription: "Subscription") -> None:
        """Remove a subscription."""
        self._subscriptions.discard(subscription)
        others = self._joined[subscription.key]
        if subscription in others:
            del others[subscription]
            self._shards.subtract(subscription.shards)
            self._shards = +self._shards
        if not others:
            del self._joined[subscription.key]

    async def _read(self, reader: Reader) -> None:
        store = Availability("feed")
        try:
            while self._shards:
                reader.restrict_to(self._shards)
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
        self._newcomers = [each for each in self._newcomers if not each.is_passed_by(reader)]

    def _reset(self, shards: frozenset[str], position: EventId) -> None:
        """Send a reset to the subscriptions that may miss events of these shards."""
        for subscriptions in list(self._joined.values()):
            for subscription in list(subscriptions):
                if not shards.isdisjoint(subscription.shards):
                    subscription.put(Reset(position))


class Subscription:
    """The events of one subscriber, in order: call ``get_batch``, or iterate."""

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
        self._before_joining: dict[str, EventId] = {}  # the last event of each shard
        self._has_joined = False
        self._after = after
        self._delivered_until = self._consumed_until = after or EventId.before(0)
        self._items: deque[Event | Reset] = deque()
        self._fell_behind = False
        self._wakeup = asyncio.Event()

    async def start(self) -> None:
        """Read for the first time, which also shows that the store is available."""
        await self._catch_up()
        if self._after is None:
            self._consumed_until = self._delivered_until

    async def get_batch(self, seconds: float) -> list[Event | Reset]:
        """Return the waiting events; wait up to ``seconds`` for the first, then return [].

        Returns [] at once if the subscription is closed. If 1,000 events wait and another one
        comes, they are returned, and the next call raises FellBehindError.
        """
        give_up = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(give_up):
                while not (self._items or self.is_closed or self._fell_behind):
                    if self._has_joined:
                        await self._wakeup.wait()
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
        self._consumed_until = items[-1].position if items else self._consumed_until
        self._items.clear()
        self._wakeup.clear()
        return items

    @property
    def position(self) -> EventId:
        """The position to resume from after all batches so far."""
        if self._items:
            return self._consumed_until
        if not self._has_joined:
            return self._delivered_until
        return max(self._delivered_until, self._feed.position)

    async def has_missed(self) -> bool:
        """Return whether there are events up to now that no batch has contained yet.

        Raises StoreUnavailable.
        """
        if any(isinstance(item, Event) for item in self._items):
            return True
        reader = Reader(self._feed.outbox, self.shards, self._delivered_until)
        now = None  # a read is complete up to the millisecond before its own
        while now is None or reader.position == now:
            async with self._feed.catch_up_slots.hold(self._caller):
                batch = await reader.read(self.filter.matches)
            if batch.events:
                return True
            if now is None and not batch.more:
                now = reader.position
            await asyncio.sleep(_MILLISECOND)
        return False

    async def __aiter__(self) -> AsyncIterator[Event | Reset]:
        while True:
            items = await self.get_batch(_LONG_SECONDS)
            if not items and self.is_closed:
                return
            for item in items:
                yield item

    def put(self, item: Event | Reset) -> bool:
        """Add an item to the next batch; return False if too many wait."""
        if self._before_joining and isinstance(item, Event):
            last = self._before_joining.get(item.position.shard)
            if last is not None and item.position <= last:
                return True
        if len(self._items) >= _MAX_BUFFERED:
            self._fell_behind = True
        else:
            self._items.append(item)
        self._wakeup.set()
        return not self._fell_behind

    def close(self) -> None:
        """Unsubscribe."""
        self.is_closed = True
        self._feed.leave(self)
        self._wakeup.set()

    def is_passed_by(self, reader: Reader) -> bool:
        """Return whether the feed's reader is past all events that came before joining."""
        if not self.is_closed and not reader.has_delivered(self._before_joining):
            return False
        self._before_joining = {}
        return True

    async def _catch_up(self) -> None:
        async with self._feed.catch_up_slots.hold(self._caller):
            if self._reader is None:
                self._reader = Reader(self._feed.outbox, self.shards, self._after)
            reader = self._reader
            batch = await reader.read(self.filter.matches)
        if batch.lost:
            self._items.append(Reset(reader.position))
        self._items.extend(batch.events)
        self._delivered_until = reader.position
        if batch.more or self.is_closed:
            return
        self._before_joining = reader.delivered()
        if self._feed.join(self, reader):
            self._has_joined, self._reader = True, None
        else:
            await asyncio.sleep(_MILLISECOND)
