"""Events are read completely while the store's clock is set, or its data or a key is damaged."""

import asyncio
import logging
import time
from typing import Any
from uuid import uuid4

import pytest

from session_service.domain.budgets import CATCH_UP_SLOTS_OF_CALLER
from session_service.domain.events import Event, EventFilter, EventId, EventPolicy
from session_service.domain.ids import SHARDS
from session_service.domain.sessions import Session
from session_service.store.events.feed import Feed, Reset, Subscription
from session_service.store.events.outbox import Outbox
from session_service.store.events.past import Doubt
from session_service.store.events.reader import Reader
from session_service.store.sessions.repository import SessionRepository
from tests.support.factories import create_session, event_record, new_uuid, shard_key
from tests.support.waiting import a_moment_later

pytestmark = pytest.mark.usefixtures("begun")

EVERYTHING = EventFilter()
MINUTES_MS = 300_000


def now_ms() -> int:
    return int(time.time() * 1000)


async def add(redis: Any, shard: str, ms: int, session_id: str = "") -> str:
    """Add an event to a shard's outbox, as if the store's clock had shown ``ms``."""
    session_id = session_id or new_uuid()
    event = event_record("created", session_id, str(ms))
    key = shard_key("events", shard)
    await redis.xadd(key, {"event": event}, id=f"{ms}-0")
    await redis.expire(key, 3600)
    return session_id


async def set_past(redis: Any, epoch: str = "a", mark: int = 0) -> None:
    """Give every shard a past; ``mark`` is when a node last saw it, by default now."""
    for shard in SHARDS:
        past = f"{epoch} {mark or now_ms()} 1 0 0"
        await redis.set(shard_key("trimmed", shard), past, px=60_000)


async def next_item(subscription: Subscription) -> Event | Reset:
    """Return the next item; fail if there is more than one."""
    (item,) = await subscription.get_batch(10)
    return item


async def created(subscription: Subscription, count: int) -> list[str]:
    """Return the sessions of the next events."""
    found: list[str] = []
    while len(found) < count:
        items = await subscription.get_batch(10)
        assert items, f"only {len(found)} of {count} came"
        found += [item.session_id for item in items if isinstance(item, Event)]
    return found


class TestWhenTheClockGoesBack:
    """After a step back, quiet shards get ids before those already read, busy ones later ids."""

    async def test_an_open_subscription_gets_everything_at_once(
        self, feed: Feed, redis: Any
    ) -> None:
        """An open subscription receives events with ids in the past and in the future."""
        await add(redis, "01", now_ms() - MINUTES_MS)
        await a_moment_later()
        subscriptions = [await feed.subscribe(EVERYTHING) for _ in range(2)]
        for n in range(3):
            expected = [
                await add(redis, "00", now_ms() - 25_000 + n),  # its first event
                await add(redis, "01", now_ms() - 2000 + n),  # it has an older event
                await add(redis, "02", now_ms() + MINUTES_MS + n),  # from when the clock was ahead
            ]
            for subscription in subscriptions:
                assert sorted(await created(subscription, 3)) == sorted(expected)

    async def test_a_subscription_that_comes_later_gets_nothing_twice(
        self, feed: Feed, redis: Any
    ) -> None:
        """A later subscription gets no earlier event, though their ids are in the future."""
        first = await feed.subscribe(EVERYTHING)
        for _ in range(5):
            await a_moment_later(2)
            seen = await add(redis, "02", now_ms() + MINUTES_MS)
            later = await feed.subscribe(EVERYTHING)
            assert await created(first, 1) == [seen]
            await a_moment_later(2)
            session = await add(redis, "02", now_ms() + MINUTES_MS)
            assert await created(later, 1) == [session]
            assert await created(first, 1) == [session]

    async def test_a_position_that_may_come_again_is_reset(
        self, feed: Feed, outbox: Outbox, redis: Any
    ) -> None:
        """A position in a doubtful period gets a reset; one before it is resumed as usual."""
        await set_past(redis)
        at = now_ms() - 10_000
        session = await add(redis, "05", at)
        outbox.doubt(SHARDS, Doubt(at + 1000, at + 5000))
        await outbox.write_doubts()
        for ms in (at + 1001, at + 3000, at + 5000):
            for event_filter in (EVERYTHING, EventFilter(user_id=new_uuid())):
                subscription = await feed.subscribe(event_filter, EventId(ms, "ff", 7))
                assert isinstance(await next_item(subscription), Reset)
        before = await feed.subscribe(EVERYTHING, EventId.before(at))
        assert await created(before, 1) == [session]
        late = await add(redis, "06", now_ms())
        assert await created(before, 1) == [late]

    async def test_nodes_add_to_what_is_doubtful(self, outbox: Outbox, redis: Any) -> None:
        """Doubtful periods of several nodes are merged, and kept until their events are trimmed."""
        await set_past(redis)
        outbox.doubt(SHARDS, Doubt(2000, 3000))
        await outbox.write_doubts()
        outbox.doubt(SHARDS[:2], Doubt(1000, 2500))
        outbox.doubt(SHARDS[:1], Doubt(2600, 4000))
        await outbox.write_doubts()
        values = [await redis.get(shard_key("trimmed", shard)) for shard in SHARDS[:3]]
        assert [value.split()[3:] for value in values] == [
            [b"1000", b"4000"],
            [b"1000", b"3000"],
            [b"2000", b"3000"],
        ]
        for shard in SHARDS[:3]:
            await add(redis, shard, 5000)
        await outbox.trim(EventPolicy(max_length=0))
        assert (await redis.get(shard_key("trimmed", "00"))).split()[3:] == [b"0", b"0"]


class TestWhenTheDataChanges:
    """The store has another data set, none, or an older copy."""

    @pytest.fixture
    async def session(self, repository: SessionRepository) -> Session:
        session = await create_session(repository)
        await a_moment_later()
        return session

    async def positions(self, session: Session, redis: Any) -> list[EventId]:
        """Return the positions of an event and of a heartbeat."""
        ((entry, _),) = await redis.xrange(shard_key("events", session.id))
        ms, number = map(int, entry.split(b"-"))
        return [EventId(ms, session.id[:2], number), EventId.before(now_ms())]

    @pytest.mark.parametrize("how", ["flushed", "pasts lost", "another"])
    async def test_every_subscription_is_reset(
        self, feed: Feed, session: Session, redis: Any, how: str
    ) -> None:
        """Open and resumed subscriptions, of one session and all, get a reset and later events."""
        filters = (EVERYTHING, EventFilter(session_id=session.id))
        positions = await self.positions(session, redis)
        opened = [await feed.subscribe(event_filter) for event_filter in filters]
        if how == "another":
            await set_past(redis, "another")
        elif how == "flushed":
            await redis.flushall()
        else:
            await redis.delete(*await redis.keys("*:trimmed"))
        for subscription in opened:
            assert isinstance(await next_item(subscription), Reset)
        resumed = [
            await feed.subscribe(event_filter, position)
            for event_filter in filters
            for position in positions
        ]
        for subscription in resumed:
            assert isinstance(await next_item(subscription), Reset)
        late = await add(redis, session.id[:2], now_ms(), session.id)
        for subscription in opened + resumed:
            assert await created(subscription, 1) == [late]

    async def test_an_older_copy_is_noticed(
        self, feed: Feed, repository: SessionRepository, session: Session, redis: Any
    ) -> None:
        """An open subscription, and one resumed after an event that the copy lacks, get a reset."""
        key = shard_key("events", session.id)
        copy = await redis.dump(key)
        event_filter = EventFilter(session_id=session.id)
        opened = await feed.subscribe(event_filter)
        await repository.renew(session.id)
        event = await next_item(opened)
        await redis.restore(key, 60_000, copy, replace=True)
        assert isinstance(await next_item(opened), Reset)
        resumed = await feed.subscribe(event_filter, event.position)
        assert isinstance(await next_item(resumed), Reset)
        await repository.renew(session.id)
        for subscription in (opened, resumed):
            assert isinstance(await next_item(subscription), Event)

    async def test_a_copy_that_nobody_saw_for_a_while_is_doubtful(
        self, feed: Feed, outbox: Outbox, redis: Any
    ) -> None:
        """Positions after an older copy was made are doubtful, as they belong to the lost data."""
        made_at = now_ms() - 600_000
        await set_past(redis, mark=made_at)
        await outbox.trim(EventPolicy())
        later = await feed.subscribe(EVERYTHING, EventId.before(now_ms() - 60_000))
        assert isinstance(await next_item(later), Reset)
        before = await feed.subscribe(EVERYTHING, EventId.before(made_at + 10_000))
        late = await add(redis, "07", now_ms())
        assert await created(before, 1) == [late]

    async def test_a_mark_ahead_of_the_clock_is_a_step_back(
        self, feed: Feed, outbox: Outbox, redis: Any
    ) -> None:
        """A mark in the future shows that the clock was set back while no node ran."""
        await set_past(redis, mark=now_ms() + 25_000)
        await outbox.trim(EventPolicy())
        subscription = await feed.subscribe(EVERYTHING, EventId.before(now_ms()))
        assert isinstance(await next_item(subscription), Reset)


class TestWhatCannotBeRead:
    """One key or one entry that cannot be read."""

    @pytest.mark.parametrize("name", ["events", "trimmed"])
    async def test_a_shard_that_cannot_be_read_holds_up_no_other(
        self, feed: Feed, outbox: Outbox, redis: Any, name: str
    ) -> None:
        """Other shards are read; a subscription that may have missed events gets a reset."""
        key = shard_key(name, "0a")
        await redis.delete(key)
        await redis.lpush(key, "poison")
        await redis.expire(key, 60)
        early = await feed.subscribe(EVERYTHING)
        assert early.position.ms > now_ms() - 60_000
        expected = await add(redis, "0b", now_ms())
        assert await created(early, 1) == [expected]
        assert "shard 0a" in outbox.quarantine.subjects()
        await redis.delete(key)
        assert isinstance(await next_item(early), Reset)
        expected = await add(redis, "0a", now_ms())
        assert await created(early, 1) == [expected]

    async def test_an_event_that_cannot_be_decoded_is_skipped(
        self, feed: Feed, outbox: Outbox, redis: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Undecodable events are counted, the first is logged, and all others arrive."""
        subscription = await feed.subscribe(EVERYTHING)
        key, at = shard_key("events", "0c"), now_ms()
        for n, fields in enumerate(
            ({"event": b"\xff"}, {"event": "created"}, {"x": "y", "event": "z"}, {"event": "a b c"})
        ):
            await redis.xadd(key, fields, id=f"{at - 10 + n}-0")
        expected = await add(redis, "0c", at)
        with caplog.at_level(logging.ERROR):
            assert await created(subscription, 1) == [expected]
        assert outbox.undecodable == 4
        assert len(caplog.records) == 1


async def test_a_caller_catches_up_in_turn(feed: Feed, redis: Any) -> None:
    """Two streams of a caller catch up at a time; other callers do not wait for them."""
    await add(redis, "01", now_ms() - 1000)
    async with feed.catch_up_slots.hold("greedy"), feed.catch_up_slots.hold("greedy"):
        assert CATCH_UP_SLOTS_OF_CALLER == 2
        third = asyncio.create_task(feed.subscribe(EVERYTHING, caller="greedy"))
        assert await asyncio.wait_for(feed.subscribe(EVERYTHING, caller="modest"), 10)
        assert not third.done()
    await third


async def test_decoding_lets_others_have_their_turn(outbox: Outbox, redis: Any) -> None:
    """A replay whose filter matches nothing yields to other tasks regularly."""
    await set_past(redis)
    at = now_ms() - 10_000
    for n in range(500):
        await redis.xadd(
            shard_key("events", "0d"),
            {"event": event_record("created", str(uuid4()), "1")},
            id=f"{at}-{n}",
        )
    await redis.expire(shard_key("events", "0d"), 60)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    entries = Reader(outbox, ("0d",), EventId.before(at))
    seen: list[int] = []

    def wants(_: Event) -> bool:
        seen.append(turns)
        return False

    counting = asyncio.create_task(count())
    while len(seen) < 500:
        await entries.read(wants)
    counting.cancel()
    assert len(set(seen)) >= 3
