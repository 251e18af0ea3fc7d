"""Queues of webhooks: no delivery is lost, repeated or out of order, even if a node dies."""

import asyncio
import os
from typing import Any

import pytest
from redis.asyncio import Redis

from session_service.composition import Store
from session_service.domain.budgets import PARKED_MS
from session_service.domain.errors import RecordUnreadable, TooManyWebhooks, WebhookNotFound
from session_service.domain.events import EventFilter, EventId
from session_service.domain.signing import new_secret
from session_service.domain.webhooks import MAX_WEBHOOKS, QueueSizes, Target, WebhookPolicy
from session_service.store.events.consumer import Batch, Consumer, Entry
from session_service.store.records import unpack_event
from session_service.store.sessions.repository import SessionRepository
from session_service.store.webhooks.queue import Delivery
from session_service.store.webhooks.registry import Webhooks
from tests.support.factories import (
    ID,
    another_node,
    create_session,
    event_record,
    own_key,
    shard_key,
)
from tests.support.waiting import wait_until

NEVER = 3_600_000
REGISTRY = shard_key("webhooks", "00")


def target(path: str = "") -> Target:
    return Target(f"https://hooks.example/{path}", new_secret(os.urandom))


def entry(ms: int, session: str = "a", number: int = 0, shard: str = "3f") -> Entry:
    """Return an event as the outbox has it, of session ``a`` to ``z``."""
    event = event_record("ended", f"{session * 8}-0000-4000-8000-000000000000")
    return Entry(EventId(ms, shard, number + 100 * (ord(session) - ord("a"))), event)


def describe(deliveries: list[Delivery]) -> list[str]:
    return [
        f"{d.event.session_id[0]}{d.event.at}-{d.event.position.number % 100}" for d in deliveries
    ]


async def take(webhooks: Webhooks, count: int = 100) -> list[Delivery]:
    return (await webhooks.queues.claim(ID, count)).deliveries


async def drain(webhooks: Webhooks) -> list[str]:
    """Deliver everything that is due, one event after the other; return the deliveries."""
    made = []
    while deliveries := await take(webhooks, 1):
        made += describe(deliveries)
        assert await webhooks.queues.record_result(ID, deliveries[0]) == "done"
    return made


class TestQueue:
    """The queue of one endpoint."""

    async def test_a_session_s_events_come_in_order(self, webhooks: Webhooks) -> None:
        """A session's events are delivered by time, then by number, in any order of the lanes."""
        entries = [entry(1, "a"), entry(2, "b"), *(entry(5, "a", n) for n in range(12))]
        await webhooks.queues.enqueue(ID, entries)
        made = await drain(webhooks)
        assert [one for one in made if one[0] == "a"] == ["a1-0", *(f"a5-{n}" for n in range(12))]
        assert [one for one in made if one[0] == "b"] == ["b2-0"]

    async def test_an_event_that_comes_again_is_queued_once(self, webhooks: Webhooks) -> None:
        """An event is queued once, even if it was delivered meanwhile; a later one is new."""
        await webhooks.queues.enqueue(ID, [entry(1), entry(2)])
        await webhooks.queues.enqueue(ID, [entry(1), entry(2)])
        assert await drain(webhooks) == ["a1-0", "a2-0"]
        await webhooks.queues.enqueue(
            ID, [entry(1), entry(2), entry(2, number=1), entry(1, shard="40")]
        )
        assert sorted(await drain(webhooks)) == ["a1-0", "a2-1"]

    async def test_one_delivery_of_a_session_is_under_way_at_a_time(
        self, webhooks: Webhooks
    ) -> None:
        """Of several nodes that claim, one gets a session's next event."""
        await webhooks.queues.enqueue(ID, [entry(n, session) for n in (1, 2) for session in "abc"])
        takes = await asyncio.gather(*(take(webhooks, 2) for _ in range(5)))
        first = [one for some in takes for one in some]
        assert sorted(describe(first)) == ["a1-0", "b1-0", "c1-0"]
        assert await take(webhooks) == []
        await webhooks.queues.record_result(
            ID, next(one for one in first if one.event.session_id[0] == "b")
        )
        assert describe(await take(webhooks)) == ["b2-0"]

    async def test_a_failure_holds_back_its_session_alone(self, webhooks: Webhooks) -> None:
        """A failed delivery holds back the later events of its session, and no others."""
        await webhooks.queues.enqueue(ID, [entry(n, session) for n in (1, 2) for session in "ab"])
        for delivery in await take(webhooks):
            failure = "HTTP_500" if delivery.event.session_id[0] == "a" else ""
            await webhooks.queues.record_result(ID, delivery, failure, NEVER)
        assert await drain(webhooks) == ["b2-0"]
        assert await webhooks.queues.sizes([ID]) == [QueueSizes(2, 0, 0)]

    async def test_a_clock_that_went_back_holds_nothing_up(
        self, webhooks: Webhooks, redis: Any
    ) -> None:
        """New, failed and abandoned deliveries are made although the clock was set back."""
        await webhooks.queues.enqueue(ID, [entry(1, session) for session in "abc"])
        lost, failed = await take(webhooks, 2)
        await webhooks.queues.record_result(ID, failed, "HTTP_500", 50)
        ahead_ms = 300_000  # by which the clock was ahead before
        for name in ("due", "leased"):
            for lane in await redis.zrange(own_key(name, ID), 0, -1):
                await redis.zincrby(own_key(name, ID), ahead_ms, lane)
        await redis.hincrby(own_key("state", ID), "clock", ahead_ms)
        made: list[str] = []

        async def are_made() -> bool:
            made.extend(await drain(webhooks))
            return len(made) == 3

        await wait_until(are_made)
        assert sorted(made) == ["a1-0", "b1-0", "c1-0"]
        assert await webhooks.queues.record_result(ID, lost) == "late"

    async def test_it_is_tried_again_after_its_pause(self, webhooks: Webhooks) -> None:
        """A claim returns the time of the next attempt, which then counts the earlier failures."""
        await webhooks.queues.enqueue(ID, [entry(1), entry(2)])
        (delivery,) = await take(webhooks)
        assert await webhooks.queues.record_result(ID, delivery, "TIMEOUT", 200) == "failed"
        claim = await webhooks.queues.claim(ID, 1)
        assert claim.deliveries == []
        assert 0 < (claim.next_in_ms or 0) <= 200
        (again,) = await wait_until(lambda: take(webhooks))
        assert (describe([again]), again.failures) == (["a1-0"], 1)

    async def test_the_queue_has_a_bound(self, store: Store) -> None:
        """Events that do not fit in a full queue are dropped and counted."""
        webhooks = another_node(store, webhooks=WebhookPolicy(max_queued=3)).webhooks
        assert await webhooks.queues.enqueue(ID, [entry(n) for n in range(1, 6)]) == 2
        assert await webhooks.queues.sizes([ID]) == [QueueSizes(3, 0, 2)]
        assert await drain(webhooks) == ["a1-0", "a2-0", "a3-0"]

    async def test_all_is_in_one_slot(self, webhooks: Webhooks, redis: Redis) -> None:
        """All keys of a webhook carry the shard of its id."""
        await webhooks.queues.enqueue(ID, [entry(1), entry(2, "b")])
        await webhooks.queues.record_result(ID, (await take(webhooks, 1))[0], "TLS", 1)
        assert all(b"{3f}" in key for key in await redis.keys("*"))


class TestDeadNode:
    """A node that claimed deliveries and died."""

    @pytest.fixture
    def webhook_policy(self) -> WebhookPolicy:
        return WebhookPolicy(timeout_seconds=-4.9)  # a lease of 100 ms

    async def test_its_deliveries_are_made_by_others(self, webhooks: Webhooks) -> None:
        """After the lease another node delivers, and a late result of the first is ignored."""
        await webhooks.queues.enqueue(ID, [entry(1), entry(2)])
        (lost,) = await take(webhooks)
        (again,) = await wait_until(lambda: take(webhooks))
        assert again.event == lost.event
        assert await webhooks.queues.record_result(ID, lost, "TIMEOUT", NEVER) == "late"
        assert await webhooks.queues.record_result(ID, again) == "done"
        assert await webhooks.queues.record_result(ID, again) == "late"
        assert describe(await take(webhooks)) == ["a2-0"]


class TestGivenUp:
    """Deliveries that fail for longer than they are retried."""

    @pytest.fixture
    def webhook_policy(self) -> WebhookPolicy:
        return WebhookPolicy(retry_ms=0)

    async def fail(self, webhooks: Webhooks, count: int) -> None:
        for _ in range(count):
            (delivery,) = await take(webhooks, 1)
            assert await webhooks.queues.record_result(ID, delivery, "HTTP_503", NEVER) == "dead"

    @pytest.fixture
    async def registered(self, webhooks: Webhooks, redis: Redis) -> str:
        webhook = await webhooks.add(target())
        value = await redis.hget(REGISTRY, webhook.id)
        await redis.hset(REGISTRY, ID, value)
        await redis.hset(REGISTRY, "version", "x")
        return ID

    @pytest.mark.usefixtures("registered")
    async def test_they_are_parked_and_the_session_goes_on(self, webhooks: Webhooks) -> None:
        """Parked deliveries are listed oldest first, and the session's next event follows."""
        await webhooks.queues.enqueue(ID, [entry(n) for n in (1, 2, 3)])
        await self.fail(webhooks, 2)
        letters, total = await webhooks.dead_letters(ID, 0, 10)
        assert total == 2
        assert [(one.event_id, one.failures, one.last_failure) for one in letters] == [
            ("1-3f-0", 1, "HTTP_503"),
            ("2-3f-0", 1, "HTTP_503"),
        ]
        page, _ = await webhooks.dead_letters(ID, 1, 10)
        assert [one.event_id for one in page] == ["2-3f-0"]
        assert await drain(webhooks) == ["a3-0"]

    @pytest.mark.usefixtures("registered")
    async def test_all_can_be_put_back(self, webhooks: Webhooks) -> None:
        """Parked deliveries are replayed once, in order, before newer ones."""
        await webhooks.queues.enqueue(ID, [entry(n) for n in (1, 2, 3)])
        await self.fail(webhooks, 2)
        assert await webhooks.replay(ID, None) == 2
        assert await webhooks.replay(ID, None) == 0
        assert await webhooks.dead_letters(ID, 0, 10) == ([], 0)
        assert await drain(webhooks) == ["a1-0", "a2-0", "a3-0"]

    @pytest.mark.usefixtures("registered")
    async def test_some_can_be_put_back(self, webhooks: Webhooks) -> None:
        """Parked deliveries are replayed by event id; unknown ids are ignored."""
        await webhooks.queues.enqueue(ID, [entry(n) for n in (1, 2)])
        await self.fail(webhooks, 2)
        assert await webhooks.replay(ID, ["2-3f-0", "9-3f-0", "nonsense"]) == 1
        assert await drain(webhooks) == ["a2-0"]
        assert await webhooks.queues.sizes([ID]) == [QueueSizes(0, 1, 0)]


async def test_sessions_that_wait_for_an_endpoint_go_on_when_it_is_back(
    webhooks: Webhooks,
) -> None:
    """A success after failures makes waiting deliveries due at once, in bounded portions."""
    sessions = [chr(ord("a") + n) for n in range(5)]
    await webhooks.queues.enqueue(ID, [entry(1, session) for session in sessions])
    for delivery in await take(webhooks):
        await webhooks.queues.record_result(ID, delivery, "CONNECTION", NEVER)
    assert await take(webhooks) == []
    await webhooks.queues.enqueue(ID, [entry(2, "f")])
    assert len(await drain(webhooks)) == 6


async def test_one_failure_is_not_brought_forward(webhooks: Webhooks) -> None:
    """A success does not make a single failed delivery due earlier."""
    await webhooks.queues.enqueue(ID, [entry(1, "a"), entry(1, "b")])
    first, second = await take(webhooks)
    await webhooks.queues.record_result(ID, first, "HTTP_400", NEVER)
    await webhooks.queues.record_result(ID, second)
    assert await take(webhooks) == []


class TestRegistry:
    """The registered webhooks."""

    async def test_a_change_is_seen_by_all(self, webhooks: Webhooks, store: Store) -> None:
        """Every node sees a change that another node made."""
        other = another_node(store).webhooks
        assert await other.list_all() == {}
        added = await webhooks.add(target())
        assert await other.list_all() == {added.id: added}
        assert await other.set_enabled(added.id, enabled=False)
        assert not await other.set_enabled(added.id, enabled=False)
        assert not (await webhooks.get(added.id)).is_enabled
        await webhooks.remove(added.id)
        assert await other.list_all() == {}
        with pytest.raises(WebhookNotFound):
            await other.get(added.id)

    async def test_what_is_no_webhook_cannot_be_removed(self, webhooks: Webhooks) -> None:
        """Other fields of the registry, such as its version, cannot be removed."""
        added = await webhooks.add(target())
        for webhook_id in ("version", ID, added.id.upper(), ""):
            with pytest.raises(WebhookNotFound):
                await webhooks.remove(webhook_id)
        assert list(await webhooks.list_all()) == [added.id]

    async def test_a_removed_one_leaves_nothing(self, webhooks: Webhooks, redis: Redis) -> None:
        """Removing a webhook deletes its queue."""
        added = await webhooks.add(target())
        await webhooks.queues.enqueue(added.id, [entry(1)])
        await webhooks.remove(added.id)
        assert await redis.keys("*:webhook:*") == []

    async def test_there_is_a_bound(self, webhooks: Webhooks) -> None:
        """Beyond the limit a webhook is refused."""
        for _ in range(MAX_WEBHOOKS):
            await webhooks.add(target())
        with pytest.raises(TooManyWebhooks):
            await webhooks.add(target())

    async def test_the_settings_decide_about_theirs(self, store: Store) -> None:
        """Endpoints that left the settings are removed; all others stay."""
        one, two = target("1"), target("2")
        before = another_node(store, webhooks=WebhookPolicy(endpoints=(one, two))).webhooks
        mine = await before.add(target("3"))
        await before.adopt_settings()
        created = {each.target.url: each for each in (await before.list_all()).values()}
        changed = Target(two.url, two.secret, EventFilter(types=frozenset(("ended",))))
        after = another_node(store, webhooks=WebhookPolicy(endpoints=(changed,))).webhooks
        await after.adopt_settings()
        found = {each.target.url: each for each in (await after.list_all()).values()}
        assert found.keys() == {two.url, mine.target.url}
        assert found[two.url].target == changed
        assert found[two.url].created_at == created[two.url].created_at


class TestConsumer:
    """The consumer of the outbox."""

    async def test_what_is_done_is_not_given_out_again(
        self, repository: SessionRepository, store: Store
    ) -> None:
        """Several nodes share the events, and an acknowledged event is not delivered again."""
        sessions = [await create_session(repository) for _ in range(40)]
        nodes = [another_node(store).consumer for _ in range(3)]
        taken = await asyncio.gather(*(node.next(0) for node in nodes))
        received = [
            unpack_event(EventId(1, "00", 0), one.event).session_id
            for some in taken
            for batch in some
            for one in batch.entries
        ]
        assert sorted(received) == sorted(session.id for session in sessions)
        for node, batches in zip(nodes, taken, strict=True):
            await node.acknowledge(batches)
        assert await nodes[0].next(0) == []

    async def test_a_shard_s_next_events_wait_for_the_last(
        self, repository: SessionRepository, store: Store
    ) -> None:
        """A shard's next events wait until the last are acknowledged, so that order is kept."""
        session = await create_session(repository)
        slow, fast = store.consumer, another_node(store).consumer
        taken = await slow.next(0)
        await repository.end(session.id)
        assert await fast.next(0) == []
        await slow.acknowledge(taken)
        (batch,) = await fast.next(0)
        assert [one.event.split()[0] for one in batch.entries] == [b"ended"]

    async def test_what_a_dead_node_had_is_given_out_again(
        self, repository: SessionRepository, store: Store
    ) -> None:
        """Events that a dead node had are delivered again, before later ones."""
        session = await create_session(repository)
        lost = await store.consumer.next(0)
        await repository.end(session.id)
        other = Consumer(store.executor, store.keys, "webhooks", store.quarantine, patience_ms=50)

        async def next_batches() -> list[Batch]:
            return await other.next(0)

        again = await wait_until(next_batches)
        assert again == lost
        await other.acknowledge(again)
        (rest,) = await next_batches()
        assert [one.event.split()[0] for one in rest.entries] == [b"ended"]

    async def test_it_starts_where_it_is_told(
        self, repository: SessionRepository, store: Store
    ) -> None:
        """Events before the start time are not delivered."""
        session = await create_session(repository)
        await repository.heartbeat(session.id)
        consumer = store.consumer
        assert await consumer.next(session.created_at + 3_600_000) == []

    async def test_it_starts_with_the_millisecond_that_it_is_told(
        self, store: Store, redis: Any
    ) -> None:
        """Events in the millisecond of the start time are delivered."""
        await redis.xadd(shard_key("events", "3f"), {"event": "x"}, id="5-0")
        await redis.expire(shard_key("events", "3f"), 60)
        (batch,) = await store.consumer.next(5)
        assert batch.ids == [b"5-0"]

    async def test_trimmed_events_do_not_stop_it(
        self, repository: SessionRepository, store: Store, redis: Any
    ) -> None:
        """Events that were trimmed before they were acknowledged are counted as lost."""
        session = await create_session(repository)
        await store.consumer.next(0)
        await redis.xtrim(shard_key("events", session.id), maxlen=0, approximate=False)
        other = Consumer(store.executor, store.keys, "webhooks", store.quarantine, patience_ms=0)
        (batch,) = await other.next(0)
        assert (batch.entries, batch.lost) == ([], 1)
        await other.acknowledge([batch])
        await repository.end(session.id)
        (batch,) = await other.next(0)
        assert len(batch.entries) == 1

    async def test_without_events_it_leaves_no_keys(self, store: Store, redis: Redis) -> None:
        """Reading without events creates no keys."""
        assert await store.consumer.next(0) == []
        assert await redis.keys("*") == []


class TestDamage:
    """Records damaged by another program, or written by a newer version."""

    @pytest.mark.parametrize(
        "value",
        [
            b"", b"1", b"1 x {}", b"1 5 {", b"1 5 {}", b"\xff\xfe", b"1 5 [[[[",
            b'1 5 {"target": {"url": "https://a", "secret": "x"}, "is_from_settings": false}',
        ],
    )  # fmt: skip
    async def test_a_webhook_that_cannot_be_read_stops_no_other(
        self, webhooks: Webhooks, redis: Any, caplog: pytest.LogCaptureFixture, value: bytes
    ) -> None:
        """An unreadable webhook is logged once, counted, removable, and read once repaired."""
        good = await webhooks.add(target())
        sound = await redis.hget(REGISTRY, good.id)
        await redis.hset(REGISTRY, mapping={ID: value, "version": "x"})
        for _ in range(3):
            assert list(await webhooks.list_all()) == [good.id]
        assert [record.getMessage() for record in caplog.records] == [
            f"webhook {ID} cannot be processed; the others go on"
        ]
        assert list(webhooks.quarantine.subjects()) == [f"webhook {ID}"]
        with pytest.raises(RecordUnreadable):
            await webhooks.get(ID)
        await redis.hset(REGISTRY, ID, sound)

        async def is_read_again() -> bool:
            return len(await webhooks.list_all()) == 2

        await wait_until(is_read_again)
        assert len(webhooks.quarantine) == 0
        await redis.hset(REGISTRY, mapping={ID: value, "version": "y"})
        await webhooks.list_all()
        await webhooks.remove(ID)
        assert list(await webhooks.list_all()) == [good.id]
        assert len(webhooks.quarantine) == 0

    async def test_a_removed_webhook_fails_no_more(self, webhooks: Webhooks, redis: Any) -> None:
        """Removing a webhook ends the problems that health reports of its queue."""
        added = await webhooks.add(target())
        await webhooks.list_all()
        await redis.set(own_key("due", added.id), "x", ex=60)
        with webhooks.quarantine.isolating(f"webhook {added.id}", "claim"):
            await webhooks.queues.claim(added.id, 1)
        assert len(webhooks.quarantine) == 1
        await webhooks.remove(added.id)
        await webhooks.list_all()
        assert len(webhooks.quarantine) == 0

    async def test_an_id_that_is_none_is_passed_over(self, webhooks: Webhooks, redis: Any) -> None:
        """A field of the registry that is no id is skipped."""
        good = await webhooks.add(target())
        sound = await redis.hget(REGISTRY, good.id)
        await redis.hset(REGISTRY, mapping={"foo": sound, "\n" * 99: sound})
        await redis.hset(REGISTRY, "version", "x")
        assert list(await webhooks.list_all()) == [good.id]

    @pytest.mark.parametrize(
        "event",
        [
            b"\xff " + bytes(48),
            event_record("born", ID),
            event_record("expired", ID, "x"),
            event_record("ended", ID)[:-1],
            event_record("ended", ID) + b"x",
        ],
    )
    async def test_an_event_that_cannot_be_read_is_put_off(
        self, webhooks: Webhooks, event: bytes
    ) -> None:
        """An unreadable event is put off like a failed one, for a node of a newer version."""
        await webhooks.queues.enqueue(ID, [entry(1, "b")])
        await webhooks.queues.enqueue(ID, [Entry(EventId(1, "40", 0), event)])
        claim = await webhooks.queues.claim(ID, 100)
        assert describe(claim.deliveries) == ["b1-0"]
        assert list(webhooks.quarantine.subjects()) == ["event 1-40-0"]
        assert await webhooks.queues.sizes([ID]) == [QueueSizes(2, 0, 0)]

    @pytest.mark.usefixtures("_registered")
    async def test_a_parked_event_that_cannot_be_read_is_shown_without_it(
        self, store: Store, redis: Any
    ) -> None:
        """A parked event that cannot be read is listed without its content."""
        webhooks = another_node(store, webhooks=WebhookPolicy(retry_ms=0)).webhooks
        unreadable = Entry(EventId(1, "40", 0), event_record("born", ID))
        await webhooks.queues.enqueue(ID, [entry(1), unreadable])
        for delivery in await take(webhooks):
            await webhooks.queues.record_result(ID, delivery, "HTTP_503")
        letters, total = await webhooks.dead_letters(ID, 0, 10)
        assert total == 2
        found = {letter.event_id: (letter.event is None, letter.last_failure) for letter in letters}
        assert found == {"1-3f-0": (False, "HTTP_503"), "1-40-0": (True, "UNREADABLE")}
        await redis.hset(own_key("bodies", ID), "1-3f-0", "garbage")
        letters, _ = await webhooks.dead_letters(ID, 0, 10)
        assert all(letter.event is None for letter in letters)
        assert await webhooks.replay(ID, None) == 1  # the one with a valid body

    @pytest.fixture
    async def _registered(self, webhooks: Webhooks, redis: Any) -> None:
        added = await webhooks.add(target())
        value = await redis.hget(REGISTRY, added.id)
        await redis.hset(REGISTRY, mapping={ID: value, "version": "x"})

    async def test_garbage_in_a_queue_is_dropped_and_counted(
        self, webhooks: Webhooks, redis: Any
    ) -> None:
        """Garbage in bodies, members, lanes and marks is dropped; the sound deliveries are made."""
        await webhooks.queues.enqueue(ID, [entry(1, "a"), entry(1, "b"), entry(2, "b")])
        a = "a" * 8 + "-0000-4000-8000-000000000000"
        await redis.hset(own_key("bodies", ID), "1-3f-0", "garbage")
        await redis.zadd(own_key("queue", ID), {f"{a} !": 0, "lane": 0, "nothing !": 0})
        await redis.zadd(own_key("due", ID), {"lane": 0, "nothing": 0})
        await redis.zadd(own_key("leased", ID), {"lost": 0})
        await redis.hset(own_key("state", ID), "3f", "garbage")
        made = [one for _ in range(10) for one in await drain(webhooks)]
        assert made == ["b1-0", "b2-0"]
        # The member without a lane is left.
        assert await webhooks.queues.sizes([ID]) == [QueueSizes(1, 0, 1)]
        assert webhooks.quarantine.total == 1
        await webhooks.queues.enqueue(ID, [entry(3, "c")])
        assert await drain(webhooks) == ["c3-0"]


@pytest.mark.parametrize("key", ["dead", "bodies", "queue", "due", "state"])
async def test_what_waits_is_kept_for_30_days(store: Store, redis: Any, key: str) -> None:
    """All keys of a queue are kept for 30 days after its last use (docs/webhooks.md)."""
    queues = another_node(store, webhooks=WebhookPolicy(retry_ms=0)).webhooks
    await queues.queues.enqueue(ID, [entry(1), entry(2)])
    (delivery,) = await take(queues)
    assert await queues.queues.record_result(ID, delivery, "HTTP_503") == "dead"
    left = await redis.pttl(own_key(key, ID))
    assert PARKED_MS - 60_000 < left <= PARKED_MS


async def must_adopt(webhooks: Webhooks) -> bool:
    await webhooks.list_all()
    return webhooks.must_adopt_settings


class TestDataSet:
    """The data set of the store is lost or replaced."""

    @pytest.mark.parametrize("how", ["flush", "other"])
    async def test_the_settings_endpoints_are_to_be_registered_again(
        self, store: Store, redis: Any, how: str
    ) -> None:
        """A node registers the endpoints of its settings again if they are missing."""
        policy = WebhookPolicy(endpoints=(target("1"),))
        node, other = (
            another_node(store, webhooks=policy).webhooks,
            another_node(store, webhooks=policy).webhooks,
        )
        for each in (node, other):
            assert await must_adopt(each)
            await each.adopt_settings()
            assert not await must_adopt(each)
        assert not await must_adopt(node)
        if how == "flush":
            await redis.flushall()
        else:  # as after SWAPDB or a restore
            await redis.hset(REGISTRY, mapping={"settings": "x", "version": "x"})
            (own,) = await node.list_all()
            await redis.hdel(REGISTRY, own)
        mine = await another_node(store).webhooks.add(target("2"))
        assert mine.id in await node.list_all()
        assert await must_adopt(node)
        await node.adopt_settings()
        assert len(await other.list_all()) == 2

    async def test_endpoints_that_another_node_removed_stay_away(self, store: Store) -> None:
        """A node with earlier settings does not bring them back during a rolling update."""
        old = another_node(store, webhooks=WebhookPolicy(endpoints=(target("1"),))).webhooks
        await old.adopt_settings()
        await old.list_all()
        new = another_node(store, webhooks=WebhookPolicy(endpoints=(target("2"),))).webhooks
        await new.adopt_settings()
        assert len(await old.list_all()) == 1
        assert not await must_adopt(old)


async def test_a_rotation_is_not_lost_to_another(webhooks: Webhooks, store: Store) -> None:
    """Of two concurrent rotations the last follows the other, and each reply is what was stored."""
    other = another_node(store).webhooks
    added = await webhooks.add(target())
    await other.list_all()
    first, second = await asyncio.gather(
        webhooks.rotate(added.id, new_secret(os.urandom), 1000),
        other.rotate(added.id, new_secret(os.urandom), 1000),
    )
    final = (await webhooks.get(added.id)).target
    chain = {first.target.previous_secret, second.target.previous_secret}
    assert chain == {added.target.secret, final.previous_secret}
    assert final in (first.target, second.target)


async def test_a_rotated_webhook_can_be_switched_and_keeps_its_time(webhooks: Webhooks) -> None:
    """A rotated webhook can be disabled, and keeps its creation time."""
    added = await webhooks.add(target())
    rotated = await webhooks.rotate(added.id, new_secret(os.urandom), 1000)
    await webhooks.set_enabled(added.id, enabled=False)
    again = await webhooks.rotate(added.id, new_secret(os.urandom), 1000)
    assert not again.is_enabled
    assert again.created_at == added.created_at
    assert again.target.previous_secret == rotated.target.secret
    assert (await webhooks.get(added.id)) == again
