"""Webhooks in the store: who is registered, and a queue for each (keys.py tells its form)."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from session_service.domain.errors import TooManyWebhooks, WebhookNotFound
from session_service.domain.events import Event, EventId
from session_service.domain.ids import SHARDS, new_webhook_id, shard_of_session
from session_service.domain.webhooks import (
    MAX_WEBHOOKS,
    DeadLetter,
    QueueSizes,
    Target,
    Webhook,
    WebhookPolicy,
    settings_id,
)
from session_service.store import scripts
from session_service.store.consumer import Entry
from session_service.store.keys import Keys, KeySet
from session_service.store.pipeline import Pipeline
from session_service.store.records import unpack_event

MAX_DEAD = 10_000  # deliveries parked for an endpoint

_KEPT_MS = 365 * 24 * 3_600_000
_TOGETHER = 500  # deliveries in one call: about 5 ms of Redis


class Delivery(NamedTuple):
    """An event on its way to an endpoint."""

    event: Event
    failures: int
    lease: bytes  # what the store knows this attempt by
    claimed_at: int  # epoch ms, the store's clock


class Claim(NamedTuple):
    """Deliveries that are to be made, and in how many milliseconds the next one is due."""

    deliveries: list[Delivery]
    next_in_ms: int | None


class _Record(msgspec.Struct, frozen=True):
    """What is written down of a webhook."""

    target: Target
    is_from_settings: bool


class Webhooks:
    """The registered webhooks. Every method raises StoreUnavailable.

    Those that take the id of a webhook raise WebhookNotFound.
    """

    def __init__(self, pipeline: Pipeline, keys: Keys, policy: WebhookPolicy) -> None:
        self.policy = policy
        self._pipeline = pipeline
        self._keys = keys
        self._registry = keys.of_shard(scripts.WEBHOOKS.keys, SHARDS[0])
        self._version = b""
        self._known: dict[str, Webhook] = {}

    async def look(self) -> dict[str, Webhook]:
        """Return all webhooks by id, as they are now. Cheap where nothing has changed."""
        reply = await self._pipeline.run(
            scripts.WEBHOOKS, self._registry, (self._version, _KEPT_MS)
        )
        if reply != b"same":
            values = dict(zip(reply[::2], reply[1::2], strict=True))
            self._version = values.pop(b"version", b"")
            self._known = {key.decode(): _unpack(key.decode(), values[key]) for key in values}
        return self._known

    async def get(self, webhook_id: str) -> Webhook:
        """Return a webhook."""
        webhook = (await self.look()).get(webhook_id)
        if webhook is None:
            raise WebhookNotFound
        return webhook

    async def add(self, target: Target) -> Webhook:
        """Register an endpoint; raises TooManyWebhooks."""
        return await self._put(new_webhook_id(), target, is_from_settings=False)

    async def adopt_settings(self) -> None:
        """Register the endpoints of the settings, and remove those that were in earlier ones.

        Raises TooManyWebhooks.
        """
        wanted = {settings_id(target.url): target for target in self.policy.endpoints}
        for webhook in list((await self.look()).values()):
            if webhook.is_from_settings and webhook.id not in wanted:
                await self.remove(webhook.id)
        for webhook_id, target in wanted.items():
            await self._put(webhook_id, target, is_from_settings=True)

    async def remove(self, webhook_id: str) -> None:
        """Remove a webhook, and all that waits for it."""
        if shard_of_session(webhook_id) is None or not await self._pipeline.run(
            scripts.WEBHOOK_REMOVE, self._registry, (webhook_id,)
        ):
            raise WebhookNotFound
        await self._pipeline.run(scripts.QUEUE_DROP, self._queue(webhook_id), ())

    async def switch(self, webhook_id: str, *, on: bool) -> bool:
        """Switch a webhook on or off; tells whether that changed something."""
        changed: int = await self._pipeline.run(
            scripts.WEBHOOK_SWITCH, self._registry, (webhook_id, int(on))
        )
        return changed == 1

    async def sizes(self, webhook_ids: Iterable[str]) -> list[QueueSizes]:
        """Count what waits for each."""
        calls = [(self._queue(webhook_id), ()) for webhook_id in webhook_ids]
        return [
            QueueSizes(*counts)
            for counts in await self._pipeline.run_all(scripts.QUEUE_SIZES, calls)
        ]

    async def enqueue(self, webhook_id: str, entries: Sequence[Entry]) -> int:
        """Put events into a webhook's queue, which takes each once.

        Those of a shard are to come in order. Returns how many were dropped: the queue was full.
        """
        dropped = 0
        for n in range(0, len(entries), _TOGETHER):
            told = [value for e in entries[n : n + _TOGETHER] for value in (str(e.id), e.event)]
            _, over = await self._pipeline.run(
                scripts.DELIVERY_ENQUEUE, self._queue(webhook_id), (self.policy.max_queued, *told)
            )
            dropped += over
        return dropped

    async def claim(self, webhook_id: str, count: int) -> Claim:
        """Take at most so many deliveries that are due, one of a session."""
        now, due, *found = await self._pipeline.run(
            scripts.DELIVERY_CLAIM, self._queue(webhook_id), (count, self.policy.lease_ms)
        )
        deliveries = [
            Delivery(_unpack_event(event, body), int(failures), lease, now)
            for event, lease, failures, body in zip(
                found[1::5], found[2::5], found[3::5], found[4::5], strict=True
            )
        ]
        return Claim(deliveries, max(0, due - now) if due else None)

    async def settle(
        self, webhook_id: str, delivery: Delivery, failure: str = "", delay_ms: int = 0
    ) -> str:
        """Tell what became of a delivery; returns done, failed, dead, or late (settle.lua)."""
        outcome: bytes = await self._pipeline.run(
            scripts.DELIVERY_SETTLE,
            self._queue(webhook_id),
            (
                delivery.event.session_id,
                delivery.event.id,
                delivery.lease,
                failure,
                delay_ms,
                self.policy.retry_ms,
                MAX_DEAD,
            ),
        )
        return outcome.decode()

    async def dead(self, webhook_id: str, offset: int, limit: int) -> tuple[list[DeadLetter], int]:
        """Return a page of what was given up, oldest first, and how many there are."""
        await self.get(webhook_id)
        total, *found = await self._pipeline.run(
            scripts.DELIVERY_DEAD, self._queue(webhook_id), (offset, limit)
        )
        letters = []
        for event, since, body in zip(found[::3], found[1::3], found[2::3], strict=True):
            failures, _, last, told = body.split(b" ", 3)
            letters.append(
                DeadLetter(
                    _unpack_event(event, told), int(failures), last.decode(), int(float(since))
                )
            )
        return letters, total

    async def replay(self, webhook_id: str, event_ids: Sequence[str] | None) -> int:
        """Put back what was given up, all or some of it, and switch the webhook on.

        Returns how many deliveries that were.
        """
        await self.get(webhook_id)
        await self.switch(webhook_id, on=True)
        keys, replayed = self._queue(webhook_id), 0
        if event_ids is not None:
            for n in range(0, len(event_ids), _TOGETHER):
                part = event_ids[n : n + _TOGETHER]
                replayed += (await self._pipeline.run(scripts.DELIVERY_REPLAY, keys, (0, *part)))[1]
            return replayed
        for _ in range(0, MAX_DEAD, _TOGETHER):
            seen, back = await self._pipeline.run(scripts.DELIVERY_REPLAY, keys, (_TOGETHER,))
            replayed += back
            if seen < _TOGETHER:
                break
            await asyncio.sleep(0)
        return replayed

    async def _put(self, webhook_id: str, target: Target, *, is_from_settings: bool) -> Webhook:
        record = msgspec.json.encode(_Record(target, is_from_settings))
        created = await self._pipeline.run(
            scripts.WEBHOOK_PUT, self._registry, (webhook_id, record, MAX_WEBHOOKS, _KEPT_MS)
        )
        if created is None:
            raise TooManyWebhooks(MAX_WEBHOOKS)
        return Webhook(webhook_id, target, int(created), is_from_settings, is_on=True)

    def _queue(self, webhook_id: str) -> KeySet:
        return self._keys.of_webhook(scripts.DELIVERY_ENQUEUE.keys, webhook_id)


def _unpack(webhook_id: str, value: bytes) -> Webhook:
    is_on, created, json = value.split(b" ", 2)
    record = msgspec.json.decode(json, type=_Record)
    return Webhook(webhook_id, record.target, int(created), record.is_from_settings, is_on == b"1")


def _unpack_event(event_id: bytes, body: bytes) -> Event:
    return unpack_event(EventId.parse(event_id.decode(), "event"), body)
