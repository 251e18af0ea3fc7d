"""Queues of webhooks: nothing is lost, doubled or out of order, whoever dies in between."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from session_service.domain.errors import TooManyWebhooks, WebhookNotFound
from session_service.domain.events import EventFilter, EventId
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import TimeoutConfig
from session_service.domain.webhooks import (
    MAX_WEBHOOKS,
    QueueSizes,
    Target,
    WebhookPolicy,
    new_secret,
)
from session_service.store.consumer import Batch, Consumer, Entry
from session_service.store.keys import Keys
from session_service.store.pipeline import Pipeline
from session_service.store.repository import SessionRepository
from session_service.store.webhooks import Delivery, Webhooks
from tests.waiting import wait_until

KEYS = Keys("test")
LASTING = TimeoutConfig(3_600_000, True, 7_200_000, 1000)
ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
NEVER = 3_600_000


def target(path: str = "") -> Target:
    return Target(f"https://hooks.example/{path}", new_secret())


def entry(ms: int, session: str = "a", number: int = 0, shard: str = "3f") -> Entry:
    """An event as the outbox has it, of one of a few sessions."""
    told = f"ended {session * 8}-0000-4000-8000-000000000000 {ID} {ID}"
    return Entry(EventId(ms, shard, number + 100 * (ord(session) - ord("a"))), told.encode())


def described(deliveries: list[Delivery]) -> list[str]:
    return [
        f"{d.event.session_id[0]}{d.event.at}-{d.event.position.number % 100}" for d in deliveries
    ]


async def take(webhooks: Webhooks, count: int = 100) -> list[Delivery]:
    return (await webhooks.claim(ID, count)).deliveries


async def drained(webhooks: Webhooks) -> list[str]:
    """Deliver all that is due, one after the other."""
    made = []
    while deliveries := await take(webhooks, 1):
        made += described(deliveries)
        assert await webhooks.settle(ID, deliveries[0]) == "done"
    return made


async def new_session(repository: SessionRepository) -> Session:
    return await repository.create(NewSession(str(uuid4()), str(uuid4()), LASTING, b"{}"))


class TestQueue:
    """One endpoint's."""

    async def test_a_session_s_events_come_in_order(self, webhooks: Webhooks) -> None:
        """By time, then by number as numbers; whatever the order of the lanes."""
        entries = [entry(1, "a"), entry(2, "b"), *(entry(5, "a", n) for n in range(12))]
        await webhooks.enqueue(ID, entries)
        made = await drained(webhooks)
        assert [one for one in made if one[0] == "a"] == ["a1-0", *(f"a5-{n}" for n in range(12))]
        assert [one for one in made if one[0] == "b"] == ["b2-0"]

    async def test_an_event_that_comes_again_is_queued_once(self, webhooks: Webhooks) -> None:
        """Also when it was delivered meanwhile; a later one of the same moment is new."""
        await webhooks.enqueue(ID, [entry(1), entry(2)])
        await webhooks.enqueue(ID, [entry(1), entry(2)])
        assert await drained(webhooks) == ["a1-0", "a2-0"]
        await webhooks.enqueue(ID, [entry(1), entry(2), entry(2, number=1), entry(1, shard="40")])
        assert sorted(await drained(webhooks)) == ["a1-0", "a2-1"]

    async def test_one_delivery_of_a_session_is_under_way_at_a_time(
        self, webhooks: Webhooks
    ) -> None:
        """Any number of nodes asks; each session is given to one of them."""
        await webhooks.enqueue(ID, [entry(n, session) for n in (1, 2) for session in "abc"])
        takes = await asyncio.gather(*(take(webhooks, 2) for _ in range(5)))
        first = [one for some in takes for one in some]
        assert sorted(described(first)) == ["a1-0", "b1-0", "c1-0"]
        assert await take(webhooks) == []
        await webhooks.settle(ID, next(one for one in first if one.event.session_id[0] == "b"))
        assert described(await take(webhooks)) == ["b2-0"]

    async def test_a_failure_holds_back_its_session_alone(self, webhooks: Webhooks) -> None:
        """What follows in the session waits for it, others do not."""
        await webhooks.enqueue(ID, [entry(n, session) for n in (1, 2) for session in "ab"])
        for delivery in await take(webhooks):
            failure = "HTTP_500" if delivery.event.session_id[0] == "a" else ""
            await webhooks.settle(ID, delivery, failure, NEVER)
        assert await drained(webhooks) == ["b2-0"]
        assert await webhooks.sizes([ID]) == [QueueSizes(2, 0, 0)]

    async def test_it_is_tried_again_after_its_pause(self, webhooks: Webhooks) -> None:
        """The claim tells when; the next attempt knows of the failures."""
        await webhooks.enqueue(ID, [entry(1), entry(2)])
        (delivery,) = await take(webhooks)
        assert await webhooks.settle(ID, delivery, "TIMEOUT", 200) == "failed"
        claim = await webhooks.claim(ID, 1)
        assert claim.deliveries == []
        assert 0 < (claim.next_in_ms or 0) <= 200
        (again,) = await wait_until(lambda: take(webhooks))
        assert (described([again]), again.failures) == (["a1-0"], 1)

    async def test_the_queue_has_a_bound(self, calls: Pipeline) -> None:
        """What comes when it is full is dropped, and counted."""
        webhooks = Webhooks(calls, KEYS, WebhookPolicy(max_queued=3))
        assert await webhooks.enqueue(ID, [entry(n) for n in range(1, 6)]) == 2
        assert await webhooks.sizes([ID]) == [QueueSizes(3, 0, 2)]
        assert await drained(webhooks) == ["a1-0", "a2-0", "a3-0"]

    async def test_all_is_in_one_slot(self, webhooks: Webhooks, redis: Redis) -> None:
        """Its keys carry the shard that the id of the webhook names."""
        await webhooks.enqueue(ID, [entry(1), entry(2, "b")])
        await webhooks.settle(ID, (await take(webhooks, 1))[0], "TLS", 1)
        assert all(b"{3f}" in key for key in await redis.keys("*"))


class TestDeadNode:
    """A node that took deliveries and was not heard of again."""

    @pytest.fixture
    def webhook_policy(self) -> WebhookPolicy:
        return WebhookPolicy(timeout_seconds=-4.9)  # a lease of 100 ms

    async def test_its_deliveries_are_made_by_others(self, webhooks: Webhooks) -> None:
        """When its time is over; what it says later counts no more."""
        await webhooks.enqueue(ID, [entry(1), entry(2)])
        (lost,) = await take(webhooks)
        (again,) = await wait_until(lambda: take(webhooks))
        assert again.event == lost.event
        assert await webhooks.settle(ID, lost, "TIMEOUT", NEVER) == "late"
        assert await webhooks.settle(ID, again) == "done"
        assert await webhooks.settle(ID, again) == "late"
        assert described(await take(webhooks)) == ["a2-0"]


class TestGivenUp:
    """Deliveries that fail for longer than they are retried."""

    @pytest.fixture
    def webhook_policy(self) -> WebhookPolicy:
        return WebhookPolicy(retry_ms=0)

    async def fail(self, webhooks: Webhooks, count: int) -> None:
        for _ in range(count):
            (delivery,) = await take(webhooks, 1)
            assert await webhooks.settle(ID, delivery, "HTTP_503", NEVER) == "dead"

    @pytest.fixture
    async def registered(self, webhooks: Webhooks, redis: Redis) -> str:
        webhook = await webhooks.add(target())
        value = await redis.hget("test:{00}:webhooks", webhook.id)
        await redis.hset("test:{00}:webhooks", ID, value)
        await redis.hset("test:{00}:webhooks", "version", "x")
        return ID

    @pytest.mark.usefixtures("registered")
    async def test_they_are_parked_and_the_session_goes_on(self, webhooks: Webhooks) -> None:
        """They can be read, oldest first, page by page."""
        await webhooks.enqueue(ID, [entry(n) for n in (1, 2, 3)])
        await self.fail(webhooks, 2)
        letters, total = await webhooks.dead(ID, 0, 10)
        assert total == 2
        assert [(one.event.at, one.failures, one.last_failure) for one in letters] == [
            (1, 1, "HTTP_503"),
            (2, 1, "HTTP_503"),
        ]
        page, _ = await webhooks.dead(ID, 1, 10)
        assert [one.event.at for one in page] == [2]
        assert await drained(webhooks) == ["a3-0"]

    @pytest.mark.usefixtures("registered")
    async def test_all_can_be_put_back(self, webhooks: Webhooks) -> None:
        """In order, ahead of what is newer; once."""
        await webhooks.enqueue(ID, [entry(n) for n in (1, 2, 3)])
        await self.fail(webhooks, 2)
        assert await webhooks.replay(ID, None) == 2
        assert await webhooks.replay(ID, None) == 0
        assert await webhooks.dead(ID, 0, 10) == ([], 0)
        assert await drained(webhooks) == ["a1-0", "a2-0", "a3-0"]

    @pytest.mark.usefixtures("registered")
    async def test_some_can_be_put_back(self, webhooks: Webhooks) -> None:
        """By the ids of the events; others that are named are passed over."""
        await webhooks.enqueue(ID, [entry(n) for n in (1, 2)])
        await self.fail(webhooks, 2)
        assert await webhooks.replay(ID, ["2-3f-0", "9-3f-0", "nonsense"]) == 1
        assert await drained(webhooks) == ["a2-0"]
        assert await webhooks.sizes([ID]) == [QueueSizes(0, 1, 0)]


async def test_sessions_that_wait_for_an_endpoint_go_on_when_it_is_back(
    webhooks: Webhooks,
) -> None:
    """After failures in a row, one success brings forward what waits, in bounded portions."""
    sessions = [chr(ord("a") + n) for n in range(6)]
    await webhooks.enqueue(ID, [entry(1, session) for session in sessions])
    for delivery in await take(webhooks):
        await webhooks.settle(ID, delivery, "CONNECTION", NEVER)
    assert await take(webhooks) == []
    await webhooks.enqueue(ID, [entry(2, "z")])
    assert len(await drained(webhooks)) == 7


async def test_one_failure_is_not_brought_forward(webhooks: Webhooks) -> None:
    """It is not the endpoint, but the delivery that fails."""
    await webhooks.enqueue(ID, [entry(1, "a"), entry(1, "b")])
    first, second = await take(webhooks)
    await webhooks.settle(ID, first, "HTTP_400", NEVER)
    await webhooks.settle(ID, second)
    assert await take(webhooks) == []


class TestRegistry:
    """Who is registered."""

    async def test_a_change_is_seen_by_all(self, webhooks: Webhooks, calls: Pipeline) -> None:
        """Whoever makes it."""
        other = Webhooks(calls, KEYS, WebhookPolicy())
        assert await other.look() == {}
        added = await webhooks.add(target())
        assert await other.look() == {added.id: added}
        assert await other.switch(added.id, on=False)
        assert not await other.switch(added.id, on=False)
        assert not (await webhooks.get(added.id)).is_on
        await webhooks.remove(added.id)
        assert await other.look() == {}
        with pytest.raises(WebhookNotFound):
            await other.get(added.id)

    async def test_what_is_no_webhook_cannot_be_removed(self, webhooks: Webhooks) -> None:
        """Nor anything else that the registry has."""
        added = await webhooks.add(target())
        for webhook_id in ("version", ID, added.id.upper(), ""):
            with pytest.raises(WebhookNotFound):
                await webhooks.remove(webhook_id)
        assert list(await webhooks.look()) == [added.id]

    async def test_a_removed_one_leaves_nothing(self, webhooks: Webhooks, redis: Redis) -> None:
        """Its queue goes with it."""
        added = await webhooks.add(target())
        await webhooks.enqueue(added.id, [entry(1)])
        await webhooks.remove(added.id)
        assert await redis.keys("*:webhook:*") == []

    async def test_there_is_a_bound(self, webhooks: Webhooks) -> None:
        """One more is refused."""
        for _ in range(MAX_WEBHOOKS):
            await webhooks.add(target())
        with pytest.raises(TooManyWebhooks):
            await webhooks.add(target())

    async def test_the_settings_decide_about_theirs(self, calls: Pipeline) -> None:
        """Those that are no longer in them go, others stay as they were."""
        one, two = target("1"), target("2")
        before = Webhooks(calls, KEYS, WebhookPolicy(endpoints=(one, two)))
        mine = await before.add(target("3"))
        await before.adopt_settings()
        created = {each.target.url: each for each in (await before.look()).values()}
        changed = Target(two.url, two.secret, EventFilter(types=frozenset(("ended",))))
        after = Webhooks(calls, KEYS, WebhookPolicy(endpoints=(changed,)))
        await after.adopt_settings()
        found = {each.target.url: each for each in (await after.look()).values()}
        assert found.keys() == {two.url, mine.target.url}
        assert found[two.url].target == changed
        assert found[two.url].created_at == created[two.url].created_at


class TestConsumer:
    """The outbox, given out."""

    async def test_what_is_done_is_not_given_out_again(
        self, repository: SessionRepository, calls: Pipeline
    ) -> None:
        """Any number of nodes share it: each event is given to one of them."""
        sessions = [await new_session(repository) for _ in range(40)]
        nodes = [Consumer(calls, KEYS) for _ in range(3)]
        given = await asyncio.gather(*(node.next(0) for node in nodes))
        told = [
            one.event.split()[1].decode()
            for some in given
            for batch in some
            for one in batch.entries
        ]
        assert sorted(told) == sorted(session.id for session in sessions)
        for node, batches in zip(nodes, given, strict=True):
            await node.done(batches)
        assert await nodes[0].next(0) == []

    async def test_a_shard_s_next_events_wait_for_the_last(
        self, repository: SessionRepository, calls: Pipeline
    ) -> None:
        """So that they come to the queues in order."""
        session = await new_session(repository)
        slow, fast = Consumer(calls, KEYS), Consumer(calls, KEYS)
        taken = await slow.next(0)
        await repository.end(session.id)
        assert await fast.next(0) == []
        await slow.done(taken)
        (batch,) = await fast.next(0)
        assert [one.event.split()[0] for one in batch.entries] == [b"ended"]

    async def test_what_a_dead_node_had_is_given_out_again(
        self, repository: SessionRepository, calls: Pipeline
    ) -> None:
        """After a while, and before what follows."""
        session = await new_session(repository)
        lost = await Consumer(calls, KEYS).next(0)
        await repository.end(session.id)
        other = Consumer(calls, KEYS, patience_ms=50)

        async def given() -> list[Batch]:
            return await other.next(0)

        again = await wait_until(given)
        assert again == lost
        await other.done(again)
        (rest,) = await given()
        assert [one.event.split()[0] for one in rest.entries] == [b"ended"]

    async def test_it_starts_where_it_is_told(
        self, repository: SessionRepository, calls: Pipeline
    ) -> None:
        """What happened before the first webhook was registered is nobody's."""
        session = await new_session(repository)
        await repository.heartbeat(session.id)
        consumer = Consumer(calls, KEYS)
        assert await consumer.next(session.created_at + 3_600_000) == []

    async def test_trimmed_events_do_not_stop_it(
        self, repository: SessionRepository, calls: Pipeline, redis: Any
    ) -> None:
        """What a dead node had and the outbox has no more is told to be lost."""
        session = await new_session(repository)
        await Consumer(calls, KEYS).next(0)
        await redis.xtrim(f"test:{{{session.id[:2]}}}:events", maxlen=0, approximate=False)
        other = Consumer(calls, KEYS, patience_ms=0)
        (batch,) = await other.next(0)
        assert (batch.entries, batch.lost) == ([], 1)
        await other.done([batch])
        await repository.end(session.id)
        (batch,) = await other.next(0)
        assert len(batch.entries) == 1

    async def test_without_events_it_leaves_no_keys(self, calls: Pipeline, redis: Redis) -> None:
        """A look costs nothing that stays."""
        assert await Consumer(calls, KEYS).next(0) == []
        assert await redis.keys("*") == []
