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
from session_service.store import scripts
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.protocol import KeySet
from session_service.store.events.consumer import Entry
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
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


class _Lane(NamedTuple):
    """The first delivery of a session, as the store has it."""

    session: bytes
    event_id: bytes
    lease: bytes


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
            words = [word for entry in batch for word in (str(entry.id), entry.event)]
            _, over = await self._executor.run(
                scripts.DELIVERY_ENQUEUE,
                self._keys_of(webhook_id),
                (self._policy.max_queued, *words),
            )
            dropped += over
        return dropped

    async def claim(self, webhook_id: str, count: int) -> Claim:
        """Claim at most ``count`` deliveries that are due, one of each session."""
        now, due, dropped, *found = await self._executor.run(
            scripts.DELIVERY_CLAIM, self._keys_of(webhook_id), (count, self._policy.lease_ms)
        )
        if dropped:
            error = RecordUnreadable(f"{dropped} deliveries of another form were dropped")
            self._quarantine.left_out(f"queue of {subject_of(webhook_id)}", "claim", error)
        deliveries = []
        for session, event_id, lease, failures, body in zip(
            *(found[n::5] for n in range(5)), strict=True
        ):
            try:
                event = unpack_queued_event(event_id, body)
            except RecordUnreadable as error:
                lane = _Lane(session, event_id, lease)
                await self._postpone(webhook_id, lane, int(failures), error)
            else:
                deliveries.append(Delivery(event, int(failures), lease, now))
        return Claim(deliveries, max(0, due - now) if due else None)

    async def _postpone(
        self, webhook_id: str, lane: _Lane, failures: int, error: RecordUnreadable
    ) -> None:
        """Try an event later that this node cannot read: a node of a newer version may."""
        subject = f"event {lane.event_id.decode(errors='backslashreplace')[:_ID_CHARACTERS]}"
        self._quarantine.failed(subject, "deliver", error)
        delay_ms = self._policy.delay_ms(failures + 1, jitter())
        if await self._record_result(webhook_id, lane, "UNREADABLE", delay_ms) != b"failed":
            self._quarantine.forget(subject)

    async def record_result(
        self, webhook_id: str, delivery: Delivery, failure: str = "", delay_ms: int = 0
    ) -> str:
        """Record the result of a delivery: it was made, or failed, e.g. with ``HTTP_503``.

        Returns ``done``; ``failed`` if it is to be tried again after ``delay_ms``; ``dead`` if it
        is parked; ``late`` if another node has claimed it meanwhile, which records nothing.
        """
        event = delivery.event
        lane = _Lane(event.session_id.encode(), event.id.encode(), delivery.lease)
        return (await self._record_result(webhook_id, lane, failure, delay_ms)).decode()

    async def _record_result(
        self, webhook_id: str, lane: _Lane, failure: str, delay_ms: int
    ) -> bytes:
        outcome: bytes = await self._executor.run(
            scripts.DELIVERY_SETTLE,
            self._keys_of(webhook_id),
            (*lane, failure, delay_ms, self._policy.retry_ms, MAX_DEAD),
        )
        return outcome

    async def sizes(self, webhook_ids: Iterable[str]) -> list[QueueSizes | None]:
        """Return the size of each queue, or None for one that cannot be read."""
        return await asyncio.gather(*(self._sizes(webhook_id) for webhook_id in webhook_ids))

    async def _sizes(self, webhook_id: str) -> QueueSizes | None:
        try:
            counts = await self._executor.run(scripts.QUEUE_SIZES, self._keys_of(webhook_id), ())
            return QueueSizes(*counts)
        except (RecordUnreadable, TypeError):
            return None

    async def dead_letters(
        self, webhook_id: str, offset: int, limit: int
    ) -> tuple[list[DeadLetter], int]:
        """Return a page of the parked deliveries, oldest first, and how many there are."""
        total, *found = await self._executor.run(
            scripts.DELIVERY_DEAD, self._keys_of(webhook_id), (offset, limit)
        )
        letters = [
            unpack_letter(*parts)
            for parts in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]
        return letters, total

    async def replay(self, webhook_id: str, event_ids: Sequence[str] | None) -> int:
        """Put parked deliveries back, those of some events or all; return how many."""
        keys, replayed = self._keys_of(webhook_id), 0
        if event_ids is not None:
            for n in range(0, len(event_ids), _BATCH):
                batch = event_ids[n : n + _BATCH]
                _, back = await self._executor.run(scripts.DELIVERY_REPLAY, keys, (0, *batch))
                replayed += back
            return replayed
        for _ in range(0, MAX_DEAD, _BATCH):
            seen, back = await self._executor.run(scripts.DELIVERY_REPLAY, keys, (_BATCH,))
            replayed += back
            if seen < _BATCH:
                break
            await asyncio.sleep(0)
        return replayed

    async def drop(self, webhook_id: str) -> None:
        """Delete a queue with all of its deliveries."""
        await self._executor.run(scripts.QUEUE_DROP, self._keys_of(webhook_id), ())

    def _keys_of(self, webhook_id: str) -> KeySet:
        return self._keys.of_webhook(scripts.DELIVERY_ENQUEUE.keys, webhook_id)


def subject_of(webhook_id: str) -> str:
    """Return the name of a webhook in the quarantine, e.g. ``webhook 3f1c0f52-7a3e-…``."""
    return f"webhook {webhook_id}"
