"""Every subscriber receives all events in order, without a gap and without repetition."""

import asyncio
import random
from typing import Any

import pytest

from session_service.composition import Store
from session_service.domain.events import Event, EventFilter, EventId, EventPolicy
from session_service.domain.messages import NewMessage
from session_service.domain.sessions import Session
from session_service.store.events.feed import Feed, FellBehindError, Reset, Subscription
from session_service.store.events.outbox import Outbox
from session_service.store.events.reader import Reader
from session_service.store.sessions.repository import SessionRepository
from tests.support.factories import (
    HOUR_MS,
    RENEWED_BY_REQUEST,
    another_node,
    create_session,
    new_uuid,
)
from tests.support.waiting import a_moment_later, wait_until

pytestmark = pytest.mark.usefixtures("begun")

EVERYTHING = EventFilter()


async def run_sessions(repository: SessionRepository, count: int) -> list[Session]:
    """Create, renew and end sessions concurrently; return them."""

    async def live() -> Session:
        session = await create_session(repository)
        for _ in range(random.randrange(4)):
            await repository.renew(session.id)
            await asyncio.sleep(random.random() / 100)
        await repository.end(session.id)
        return session

    return await asyncio.gather(*(live() for _ in range(count)))


async def take(subscription: Subscription, count: int) -> list[Any]:
    """Return the next ``count`` items."""
    items: list[Any] = []
    while len(items) < count:
        more = await subscription.get_batch(10)
        assert more, f"only {len(items)} of {count} came"
        items += more
    assert len(items) == count
    return items


async def stored_ids(redis: Any) -> list[EventId]:
    """Return the ids of all events in the store, in order."""
    found = []
    for key in await redis.keys("*:events"):
        shard = key.partition(b"{")[2][:2].decode()
        for entry, _ in await redis.xrange(key):
            ms, number = map(int, entry.split(b"-"))
            found.append(EventId(ms, shard, number))
    return sorted(found)


async def test_subscribers_get_all_that_happens_in_one_order(
    feed: Feed, repository: SessionRepository, redis: Any
) -> None:
    """All subscribers receive the same events, exactly those in the store."""
    await run_sessions(repository, 5)  # before the subscriptions
    await a_moment_later()
    before = len(await stored_ids(redis))
    subscriptions = [await feed.subscribe(EVERYTHING) for _ in range(3)]
    await run_sessions(repository, 50)
    expected = (await stored_ids(redis))[before:]
    for subscription in subscriptions:
        events = await take(subscription, len(expected))
        assert [event.position for event in events] == expected


async def test_a_subscriber_who_was_away_gets_what_it_missed(
    feed: Feed, repository: SessionRepository, redis: Any
) -> None:
    """A subscription resumes after any earlier event, without a gap or repetition, under load."""
    await run_sessions(repository, 40)
    seen = await stored_ids(redis)
    writing = asyncio.create_task(run_sessions(repository, 100))
    starts = random.sample(seen, 5)
    subscriptions = [await feed.subscribe(EVERYTHING, start) for start in starts]
    await writing
    everything = await stored_ids(redis)
    for start, subscription in zip(starts, subscriptions, strict=True):
        expected = everything[everything.index(start) + 1 :]
        events = await take(subscription, len(expected))
        assert [event.position for event in events] == expected


async def test_a_long_absence_is_caught_up_with(
    feed: Feed, repository: SessionRepository, redis: Any
) -> None:
    """5,000 missed events, half of them of one shard, are delivered; one read holds fewer."""
    user, session = new_uuid(), await create_session(repository)
    start = (await stored_ids(redis))[0]
    for _ in range(25):
        await asyncio.gather(
            *(create_session(repository, user_id=user) for _ in range(100)),
            *(create_session(repository) for _ in range(100)),
        )
    expected = (await stored_ids(redis))[1:]
    subscription = await feed.subscribe(EVERYTHING, start)
    events = await take(subscription, len(expected))
    assert [event.position for event in events] == expected
    await repository.end(session.id)
    assert [event.type for event in await take(subscription, 1)] == ["ended"]


async def test_a_read_without_more_has_come_to_the_present(
    outbox: Outbox, repository: SessionRepository, redis: Any
) -> None:
    """A read that reports no more events has reached the present in every shard."""
    reader = Reader(outbox)
    for _ in range(20):
        await asyncio.gather(*(create_session(repository) for _ in range(40)))
        seconds, microseconds = await redis.time()
        await a_moment_later()
        while (await reader.read()).more:
            pass
        assert reader.position >= EventId.before(seconds * 1000 + microseconds // 1000)


async def test_a_filter_lets_through_what_matches(
    feed: Feed, repository: SessionRepository
) -> None:
    """A filter selects events by session, user, agent and type."""
    first = await create_session(repository, RENEWED_BY_REQUEST)
    await a_moment_later()
    subscriptions = {
        "session": await feed.subscribe(EventFilter(session_id=first.id)),
        "user": await feed.subscribe(EventFilter(user_id=first.user_id)),
        "agent": await feed.subscribe(EventFilter(agent_id=first.agent_id)),
        "type": await feed.subscribe(EventFilter(types=frozenset(["ended"]))),
    }
    second = await create_session(repository, user_id=first.user_id)
    await repository.renew(first.id)
    await repository.send(first.id, NewMessage("Hello", None, b"{}", None))
    await repository.end(second.id)
    await repository.end(first.id)
    received = {
        name: [(event.type, event.session_id) for event in await take(subscription, count)]
        for count, (name, subscription) in zip((3, 5, 3, 2), subscriptions.items(), strict=True)
    }
    of_first = [(each, first.id) for each in ("renewed", "message", "ended")]
    assert received == {
        "session": of_first,
        "user": [("created", second.id), *of_first[:2], ("ended", second.id), of_first[2]],
        "agent": of_first,
        "type": [("ended", second.id), ("ended", first.id)],
    }


@pytest.mark.parametrize("content", [False, True])
async def test_a_message_is_told_without_its_content(
    store: Store, feed: Feed, content: bool
) -> None:
    """A message event has the content only if the event policy includes it."""
    repository = another_node(store, events=EventPolicy(content=content)).repository
    session = await create_session(repository)
    subscription = await feed.subscribe(EventFilter(types=frozenset(["message"])))
    await repository.send(session.id, NewMessage("a  secret", None, b"{}", None))
    (event,) = await take(subscription, 1)
    assert event.data.get("content") == ("a  secret" if content else None)


class TestWhenTheOutboxIsBounded:
    """An outbox that keeps about 1,000 events, or those of the last 100 ms."""

    @pytest.fixture(params=["length", "age"])
    def policy(self, request: pytest.FixtureRequest) -> EventPolicy:
        if request.param == "length":
            return EventPolicy(max_length=1000)
        return EventPolicy(retention_ms=100)

    async def test_a_gap_is_told(
        self,
        feed: Feed,
        repository: SessionRepository,
        outbox: Outbox,
        policy: EventPolicy,
        redis: Any,
    ) -> None:
        """A subscriber that missed trimmed events gets a reset, and all later events."""
        user = new_uuid()
        first = await create_session(repository, user_id=user)
        start = (await stored_ids(redis))[0]
        await outbox.trim(EventPolicy())
        await outbox.trim(EventPolicy())
        assert outbox.gone_until == 0  # although the outbox of a new store begins now
        for _ in range(20):
            await asyncio.gather(*(create_session(repository, user_id=user) for _ in range(100)))

        async def is_trimmed() -> bool:
            await outbox.trim(policy)
            return start not in await stored_ids(redis)

        await wait_until(is_trimmed)
        await outbox.trim(policy)
        assert outbox.gone_until >= start.ms
        for event_filter in (EVERYTHING, EventFilter(session_id=first.id)):
            subscription = await feed.subscribe(event_filter, start)
            (reset,) = await take(subscription, 1)
            assert isinstance(reset, Reset)
            await repository.renew(first.id)
            (event,) = await take(subscription, 1)
            assert isinstance(event, Event)
            assert event.position > reset.position
            await feed.subscribe(
                EVERYTHING, reset.position
            )  # a reset's position can be resumed from

    async def test_what_is_kept_can_be_read_on(
        self,
        feed: Feed,
        repository: SessionRepository,
        outbox: Outbox,
        policy: EventPolicy,
        redis: Any,
    ) -> None:
        """A quiet shard's trimmed past is no gap for a subscriber that has read it."""
        await run_sessions(repository, 20)
        await a_moment_later(100)
        await outbox.trim(policy)
        last = await create_session(repository)
        start = (await stored_ids(redis))[-1]
        subscription = await feed.subscribe(EVERYTHING, start)
        await repository.end(last.id)
        assert [event.type for event in await take(subscription, 1)] == ["ended"]


@pytest.mark.parametrize("days", [-8, 1])
async def test_a_position_that_cannot_be_known_is_a_gap(
    feed: Feed, repository: SessionRepository, days: int
) -> None:
    """A position in the future, or older than any event is kept, is a gap."""
    session = await create_session(repository)
    position = EventId(session.created_at + days * 24 * HOUR_MS, "00", 0)
    assert isinstance((await take(await feed.subscribe(EVERYTHING, position), 1))[0], Reset)


async def test_who_does_not_take_is_cut_and_disturbs_nobody(
    feed: Feed, repository: SessionRepository
) -> None:
    """A subscriber that does not take gets 1,000 events and an error; the others get all."""
    user = new_uuid()
    idle, busy = [await feed.subscribe(EVERYTHING) for _ in range(2)]
    events = []
    for _ in range(15):
        await asyncio.gather(*(create_session(repository, user_id=user) for _ in range(100)))
        events += await take(busy, 100)
    assert len(await take(idle, 1000)) == 1000
    with pytest.raises(FellBehindError):
        await idle.get_batch(10)
    assert len(events) == 1500


async def test_a_subscriber_of_nothing_waits(feed: Feed) -> None:
    """Without events a read waits up to its timeout, or until the feed is closed."""
    subscription = await feed.subscribe(EventFilter(session_id="no session"))
    assert await subscription.get_batch(0.01) == []
    waiting = asyncio.create_task(subscription.get_batch(60))
    await asyncio.sleep(0)
    feed.close()
    assert await waiting == []
    assert subscription.is_closed
    assert (await feed.subscribe(EVERYTHING)).is_closed
