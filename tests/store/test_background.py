"""Background tasks keep running after a failure in a shard, a webhook, an event or our code."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from session_service.background import consume
from session_service.background.consume import ConsumedEvent, consume_forever
from session_service.background.deliveries import deliver_forever
from session_service.background.sweeper import sweep_forever
from session_service.composition import Store
from session_service.domain.errors import StoreUnavailable
from session_service.domain.events import EventPolicy
from session_service.domain.signing import new_secret
from session_service.domain.webhooks import QueueSizes, Target, WebhookPolicy
from session_service.store import records
from session_service.store.availability import Availability
from session_service.store.client.executor import ScriptExecutor
from session_service.store.events.consumer import Consumer
from session_service.store.events.outbox import Outbox
from session_service.store.quarantine import Quarantine
from session_service.store.sessions.counts import KnownSizes
from session_service.store.sessions.deadlines import Deadlines
from session_service.store.sessions.repository import SessionRepository
from session_service.store.webhooks.queue import DeliveryQueues
from tests.support.factories import KEYS, RETENTION_MS, another_node, create_session
from tests.support.waiting import wait_until


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a task for the block; fail if it ends before the block does."""
    task = asyncio.create_task(work)
    try:
        yield task
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


class Defective(Deadlines):
    """Deadlines that fail a few times, as a bug of ours would."""

    failures = 2
    looks = 0

    async def find_due(self, block: tuple[str, ...]) -> list[str]:
        self.looks += 1
        if self.looks <= self.failures:
            raise TypeError("a defect")
        return await super().find_due(block)


async def test_a_defect_does_not_end_the_sweeper(
    executor: ScriptExecutor, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect is logged once, with its traceback, and the sweeper continues after a pause."""
    caplog.set_level(logging.INFO)
    quarantine = Quarantine(fraction=lambda: 0.0)
    deadlines = Defective(
        executor,
        KEYS,
        retention_ms=RETENTION_MS,
        history_ms=0,
        quarantine=quarantine,
        known_sizes=KnownSizes(),
    )
    async with running(sweep_forever(deadlines, outbox, EventPolicy(), quarantine)):
        await wait_until(
            lambda: deadlines.looks > deadlines.failures and not len(quarantine),
            description="the sweeper works again",
        )
    first, last = [record for record in caplog.records if record.name.endswith("quarantine")]
    assert (first.levelname, bool(first.exc_info)) == ("ERROR", True)
    assert last.getMessage() == "sweeper is processed again"


class Broken(DeliveryQueues):
    """Queues that fail for one webhook, as a bug of ours would."""

    bad = ""

    async def enqueue(self, webhook_id: str, entries: Any) -> int:
        if webhook_id == self.bad:
            raise TypeError("a defect")
        return await super().enqueue(webhook_id, entries)


async def test_a_defect_of_one_webhook_does_not_stop_the_others(
    store: Store, repository: SessionRepository
) -> None:
    """A defect that one webhook causes stops neither the others nor the delivery loop."""
    policy = WebhookPolicy(is_paused=True)
    node = another_node(store, webhooks=policy)
    webhooks = node.webhooks
    webhooks.queues = broken = Broken(node.executor, node.keys, policy, node.quarantine)
    bad, good = [
        await webhooks.add(Target("https://a.example", new_secret(os.urandom))) for _ in range(2)
    ]
    broken.bad = bad.id

    async def are_queued() -> bool:
        sizes = await webhooks.queues.sizes([bad.id, good.id])
        return sizes == [QueueSizes(0, 0, 0), QueueSizes(2, 0, 0)]

    async with running(deliver_forever(webhooks, node.consumer)):
        for _ in range(2):
            await create_session(repository)
        await wait_until(are_queued)
    assert list(node.quarantine.subjects()) == [f"webhook {bad.id}"]


async def test_an_event_is_decoded_once_for_all_webhooks(
    store: Store, repository: SessionRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of webhooks does not change how often an event is decoded."""
    decoded: list[Any] = []
    unpack = records.unpack_event

    def counted(*entry: Any) -> Any:
        decoded.append(entry)
        return unpack(*entry)

    monkeypatch.setattr(consume, "unpack_event", counted)
    webhooks = another_node(store, webhooks=WebhookPolicy(is_paused=True)).webhooks
    added = [
        await webhooks.add(Target("https://a.example", new_secret(os.urandom))) for _ in range(5)
    ]

    async def are_queued() -> bool:
        sizes = await webhooks.queues.sizes([webhook.id for webhook in added])
        return sizes == [QueueSizes(3, 0, 0)] * 5

    async with running(deliver_forever(webhooks, store.consumer)):
        for _ in range(3):
            await create_session(repository)
        await wait_until(are_queued)
    assert len(decoded) == 3


async def test_another_group_consumes_on_its_own(
    executor: ScriptExecutor, repository: SessionRepository
) -> None:
    """Every consumer group receives every event."""
    await create_session(repository)
    for group in ("webhooks", "agents"):
        consumer = Consumer(executor, KEYS, group, Quarantine())
        (batch,) = await consumer.next(0)
        assert len(batch.entries) == 1
        await consumer.acknowledge([batch])
        assert await consumer.next(0) == []


class Collector:
    """A handler that needs all events and fails the first time."""

    name = "collector"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    async def since(self) -> int | None:
        return 0

    async def handle(self, events: Sequence[ConsumedEvent]) -> None:
        self.calls.append([event.session_id for _, event in events])
        if len(self.calls) == 1:
            raise TypeError("a defect")


async def test_a_consumer_gets_events_again_until_it_has_handled_them(
    executor: ScriptExecutor, repository: SessionRepository
) -> None:
    """Events are delivered again if their handler failed, as they were not acknowledged."""
    session = await create_session(repository)
    collector = Collector()
    consumer = Consumer(
        executor, KEYS, "collector", Quarantine(fraction=lambda: 0.0), patience_ms=0
    )
    async with running(consume_forever(consumer, collector)):
        await wait_until(lambda: len(collector.calls) == 2)
    assert collector.calls == [[session.id], [session.id]]


async def test_an_absence_is_logged_once_for_all_tasks_that_share_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has one line when the first task loses the store and one when the last is back."""
    caplog.set_level(logging.INFO)
    store = Availability("webhook deliveries")
    for task in ("a", "b", "a"):
        await store.wait_after(StoreUnavailable("gone"), task)
    store.answered("a")
    assert "store is back" not in caplog.text
    store.answered("b")
    store.answered("b")
    assert [record.getMessage() for record in caplog.records] == [
        "webhook deliveries: store unavailable",
        "webhook deliveries: store is back",
    ]
