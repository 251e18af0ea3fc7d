"""The queues of deliveries, one for each webhook (keys.py describes their keys).

A queue has a lane for each session. The deliveries of a lane are made one after the other, in the
order of the events; lanes are independent of each other.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from session_service.domain.errors import RecordUnreadable
from session_service.domain.events import Event
from session_service.domain.times import jitter
from session_service.domain.webhooks import DeadLetter, QueueSizes, WebhookPolicy
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.script import NO_ARGUMENTS
from session_service.store.events.consumer import Entry
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.scripts.webhooks import (
    CLAIM,
    DEAD_LETTERS,
    DROP,
    ENQUEUE,
    RECORD_RESULT,
    REPLAY,
    SIZES,
    ClaimArguments,
    ClaimedLane,
    DeadLettersArguments,
    EnqueueArguments,
    RecordResultArguments,
    ReplayArguments,
)
from session_service.store.webhooks.records import unpack_letter, unpack_queued_event

MAX_DEAD = 10_000  # deliveries parked for an endpoint

_BATCH = 500  # deliveries in one call: about 5 ms of Redis
_ID_CHARACTERS = 36  # of an id from the store, in the log


class Delivery(NamedTuple):
    """An event that a node has claimed, to deliver it."""

    event: Event
    failures: int
    lease: bytes  # until when the lane is claimed, by which the store knows this attempt
    claimed_at: int  # epoch ms, the store's clock


class Claim(NamedTuple):
    """Deliveries to make now, and in how many milliseconds the next one is due."""

    deliveries: list[Delivery]
    next_in_ms: int | None


class DeliveryQueues:
    """The queues of all webhooks. Every method raises StoreUnavailable.

    Those that take the id of a webhook raise RecordUnreadable if one of its keys is damaged.
    """

    def __init__(
        self, executor: ScriptExecutor, keys: Keys, policy: WebhookPolicy, quarantine: Quarantine
    ) -> None:
        self._executor = executor
        self._keys = keys
        self._policy = policy
        self._quarantine = quarantine

    async def enqueue(self, webhook_id: str, entries: Sequence[Entry]) -> int:
        """Put events into a webhook's queue; one that has been in it is passed over.

        Those of a shard must come in order. Returns how many were dropped because the queue was
        full.
        """
        dropped = 0
        for n in range(0, len(entries), _BATCH):
            batch = entries[n : n + _BATCH]
            words = tuple(word for entry in batch for word in (str(entry.id), entry.event))
            enqueued = await self._executor.run(
                ENQUEUE,
                self._keys.of_webhook(ENQUEUE.keys, webhook_id),
                EnqueueArguments(self._policy.max_queued, words),
            )
            dropped += enqueued.dropped
        return dropped

    async def claim(self, webhook_id: str, count: int) -> Claim:
        """Claim at most ``count`` deliveries that are due, one of each session."""
        claimed = await self._executor.run(
            CLAIM,
            self._keys.of_webhook(CLAIM.keys, webhook_id),
            ClaimArguments(count, self._policy.lease_ms),
        )
        if claimed.dropped:
            error = RecordUnreadable(f"{claimed.dropped} deliveries of another form were dropped")
            self._quarantine.skipped(f"queue of {subject_of(webhook_id)}", "claim", error)
        deliveries = []
        for lane in claimed.lanes:
            try:
                event = unpack_queued_event(lane.event_id, lane.event)
            except RecordUnreadable as error:
                await self._postpone(webhook_id, lane, error)
            else:
                deliveries.append(Delivery(event, lane.failures, lane.lease, claimed.now))
        due = claimed.next_due
        return Claim(deliveries, max(0, due - claimed.now) if due else None)

    async def _postpone(self, webhook_id: str, lane: ClaimedLane, error: RecordUnreadable) -> None:
        """Try an event later that this node cannot read: a node of a newer version may."""
        subject = f"event {lane.event_id.decode(errors='backslashreplace')[:_ID_CHARACTERS]}"
        self._quarantine.failed(subject, "deliver", error)
        delay_ms = self._policy.delay_ms(lane.failures + 1, jitter())
        attempt = (lane.session_id, lane.event_id, lane.lease)
        result = await self._record_result(webhook_id, attempt, "UNREADABLE", delay_ms)
        if result != "failed":
            self._quarantine.forget(subject)

    async def record_result(
        self, webhook_id: str, delivery: Delivery, failure: str = "", delay_ms: int = 0
    ) -> str:
        """Record the result of a delivery: it was made, or failed, e.g. with ``HTTP_503``.

        Returns ``done``; ``failed`` if it is to be tried again after ``delay_ms``; ``dead`` if it
        is parked; ``late`` if another node has claimed it meanwhile, which records nothing.
        """
        event = delivery.event
        attempt = (event.session_id.encode(), event.id.encode(), delivery.lease)
        return await self._record_result(webhook_id, attempt, failure or None, delay_ms)

    async def _record_result(
        self,
        webhook_id: str,
        attempt: tuple[bytes, bytes, bytes],  # session, event, lease
        failure: str | None,
        delay_ms: int,
    ) -> str:
        return await self._executor.run(
            RECORD_RESULT,
            self._keys.of_webhook(RECORD_RESULT.keys, webhook_id),
            RecordResultArguments(
                *attempt,
                failure,
                delay_ms,
                retry_ms=self._policy.retry_ms,
                max_dead=MAX_DEAD,
            ),
        )

    async def sizes(self, webhook_ids: Iterable[str]) -> list[QueueSizes | None]:
        """Return the size of each queue, or None for one that cannot be read."""
        return await asyncio.gather(*(self._sizes(webhook_id) for webhook_id in webhook_ids))

    async def _sizes(self, webhook_id: str) -> QueueSizes | None:
        keys = self._keys.of_webhook(SIZES.keys, webhook_id)
        try:
            return await self._executor.run(SIZES, keys, NO_ARGUMENTS)
        except (RecordUnreadable, TypeError):
            return None

    async def dead_letters(
        self, webhook_id: str, offset: int, limit: int
    ) -> tuple[list[DeadLetter], int]:
        """Return a page of the parked deliveries, oldest first, and how many there are."""
        found = await self._executor.run(
            DEAD_LETTERS,
            self._keys.of_webhook(DEAD_LETTERS.keys, webhook_id),
            DeadLettersArguments(offset, limit),
        )
        return [unpack_letter(*letter) for letter in found.page], found.total

    async def replay(self, webhook_id: str, event_ids: Sequence[str] | None) -> int:
        """Put parked deliveries back, those of some events or all; return how many."""
        keys, replayed = self._keys.of_webhook(REPLAY.keys, webhook_id), 0
        if event_ids is not None:
            for n in range(0, len(event_ids), _BATCH):
                arguments = ReplayArguments(0, tuple(event_ids[n : n + _BATCH]))
                replayed += (await self._executor.run(REPLAY, keys, arguments)).replayed
            return replayed
        for _ in range(0, MAX_DEAD, _BATCH):
            reply = await self._executor.run(REPLAY, keys, ReplayArguments(_BATCH, ()))
            replayed += reply.replayed
            if reply.seen < _BATCH:
                break
            await asyncio.sleep(0)
        return replayed

    async def drop(self, webhook_id: str) -> None:
        """Delete a queue with all of its deliveries."""
        await self._executor.run(DROP, self._keys.of_webhook(DROP.keys, webhook_id), NO_ARGUMENTS)


def subject_of(webhook_id: str) -> str:
    """Return the name of a webhook in the quarantine, e.g. ``webhook 3f1c0f52-7a3e-…``."""
    return f"webhook {webhook_id}"
