"""Webhooks in the store: who is registered, and a queue for each (keys.py tells its form)."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from session_service.domain.errors import (
    RecordUnreadable,
    TooManyWebhooks,
    ValidationFailed,
    WebhookNotFound,
)
from session_service.domain.events import Event
from session_service.domain.ids import SHARDS, new_webhook_id, shard_of_session
from session_service.domain.times import jitter
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
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.protocol import KeySet
from session_service.store.events.consumer import Entry
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.webhooks.records import (
    pack_webhook,
    unpack_letter,
    unpack_queued_event,
    unpack_webhook,
)

MAX_DEAD = 10_000  # deliveries parked for an endpoint

_KEPT_MS = 365 * 24 * 3_600_000
_TOGETHER = 500  # deliveries in one call: about 5 ms of Redis
_ID_CHARACTERS = 36  # of what should be an id, in the log
_READ = "read"


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


class Webhooks:
    """The registered webhooks. Every method raises StoreUnavailable.

    Those that take the id of a webhook raise WebhookNotFound, and RecordUnreadable if a key of the
    webhook is not what it should be.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        policy: WebhookPolicy,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.policy = policy
        self.quarantine = Quarantine() if quarantine is None else quarantine
        self._executor = executor
        self._keys = keys
        self._registry = keys.of_shard(scripts.WEBHOOKS.keys, SHARDS[0])
        self._version = b""
        self._known: dict[str, Webhook] = {}
        self._json: dict[str, bytes] = {}  # as they are stored
        self._unreadable: set[str] = set()
        self._mark = b""  # of the data set in which the settings' endpoints were registered
        self._seen_mark = b""

    async def look(self) -> dict[str, Webhook]:
        """Return all readable webhooks by id, as they are now. Cheap if nothing has changed."""
        version = b"" if self._may_read_again() else self._version
        reply = await self._executor.run(scripts.WEBHOOKS, self._registry, (version, _KEPT_MS))
        if reply != b"same":
            values = dict(zip(reply[::2], reply[1::2], strict=True))
            self._version = values.pop(b"version", b"")
            self._seen_mark = values.pop(b"settings", b"")
            self._read(values)
        return self._known

    async def get(self, webhook_id: str) -> Webhook:
        """Return a webhook."""
        webhook = (await self.look()).get(webhook_id)
        if webhook is None:
            raise RecordUnreadable if webhook_id in self._unreadable else WebhookNotFound
        return webhook

    def _read(self, values: dict[bytes, bytes]) -> None:
        before = self._unreadable | self._known.keys()
        self._unreadable, self._known, self._json = set(), {}, {}
        for key, value in values.items():
            webhook_id = key.decode(errors="backslashreplace")[:_ID_CHARACTERS]
            try:
                self._known[webhook_id] = unpack_webhook(webhook_id, value)
            except RecordUnreadable as error:
                self._unreadable.add(webhook_id)
                self.quarantine.failed(subject_of(webhook_id), _READ, error)
            else:
                self.quarantine.succeeded(subject_of(webhook_id), _READ)
                self._json[webhook_id] = b"{" + value.partition(b" {")[2]
        for webhook_id in before - self._unreadable - self._known.keys():
            self.quarantine.forget(subject_of(webhook_id))

    def _may_read_again(self) -> bool:
        """Return whether a record that could not be read may have been mended by now."""
        return any(
            not self.quarantine.must_wait(subject_of(webhook_id), _READ)
            for webhook_id in self._unreadable
        )

    async def add(self, target: Target) -> Webhook:
        """Register an endpoint; raises TooManyWebhooks."""
        return await self._put(new_webhook_id(), target, is_from_settings=False)

    @property
    def must_adopt_settings(self) -> bool:
        """Return whether the data set of the last look is not the one of ``adopt_settings``.

        So it is at the start, and after the data were lost or replaced.
        """
        return self._mark != self._seen_mark or not self._mark

    async def adopt_settings(self) -> None:
        """Register the endpoints of the settings, and remove those that were in earlier ones.

        Raises TooManyWebhooks if there is no room for all of them.
        """
        too_many: TooManyWebhooks | None = None
        try:
            await self._adopt_settings()
        except TooManyWebhooks as error:
            too_many = error
        self._mark = self._seen_mark = await self._executor.run(
            scripts.WEBHOOKS_ADOPTED, self._registry, (os.urandom(8).hex(), _KEPT_MS)
        )
        if too_many is not None:
            raise too_many

    async def _adopt_settings(self) -> None:
        wanted = {settings_id(target.url): target for target in self.policy.endpoints}
        for webhook in list((await self.look()).values()):
            if webhook.is_from_settings and webhook.id not in wanted:
                await self.remove(webhook.id)
        for webhook_id, target in wanted.items():
            await self._put(webhook_id, target, is_from_settings=True)

    async def remove(self, webhook_id: str) -> None:
        """Remove a webhook, and all that waits for it."""
        if shard_of_session(webhook_id) is None or not await self._executor.run(
            scripts.WEBHOOK_REMOVE, self._registry, (webhook_id,)
        ):
            raise WebhookNotFound
        await self._executor.run(scripts.QUEUE_DROP, self._queue(webhook_id), ())

    async def switch(self, webhook_id: str, *, on: bool) -> bool:
        """Switch a webhook on or off; tells whether that changed something."""
        changed: int = await self._executor.run(
            scripts.WEBHOOK_SWITCH, self._registry, (webhook_id, int(on))
        )
        return changed == 1

    async def rotate(self, webhook_id: str, secret: str, overlap_ms: int) -> Webhook:
        """Replace the secret of a webhook; the last one is used beside it for the overlap.

        Raises ValidationFailed for a webhook from the settings.
        """
        while True:
            webhook = await self.get(webhook_id)
            if webhook.is_from_settings:
                raise ValidationFailed(
                    "webhookId",
                    "must not be of an endpoint in SESSION_WEBHOOKS:"
                    " change its secret there, and name the last one as previousSecret",
                )
            target = replace(webhook.target, secret=secret, previous_secret=webhook.target.secret)
            overlap_until = await self._executor.run(
                scripts.WEBHOOK_ROTATE,
                self._registry,
                (
                    webhook_id,
                    self._json[webhook_id],
                    pack_webhook(target, is_from_settings=False),
                    overlap_ms,
                ),
            )
            if overlap_until is not None:
                return replace(webhook, target=target, overlap_until=overlap_until)

    async def sizes(self, webhook_ids: Iterable[str]) -> list[QueueSizes | None]:
        """Count what waits for each; None if the queue cannot be read."""
        return await asyncio.gather(*(self._sizes(webhook_id) for webhook_id in webhook_ids))

    async def _sizes(self, webhook_id: str) -> QueueSizes | None:
        try:
            counts = await self._executor.run(scripts.QUEUE_SIZES, self._queue(webhook_id), ())
            return QueueSizes(*counts)
        except (RecordUnreadable, TypeError):
            return None

    async def enqueue(self, webhook_id: str, entries: Sequence[Entry]) -> int:
        """Put events into a webhook's queue, which takes each once.

        Those of a shard are to come in order. Returns how many were dropped: the queue was full.
        """
        dropped = 0
        for n in range(0, len(entries), _TOGETHER):
            told = [value for e in entries[n : n + _TOGETHER] for value in (str(e.id), e.event)]
            _, over = await self._executor.run(
                scripts.DELIVERY_ENQUEUE, self._queue(webhook_id), (self.policy.max_queued, *told)
            )
            dropped += over
        return dropped

    async def claim(self, webhook_id: str, count: int) -> Claim:
        """Take at most so many deliveries that are due, one of a session."""
        now, due, dropped, *found = await self._executor.run(
            scripts.DELIVERY_CLAIM, self._queue(webhook_id), (count, self.policy.lease_ms)
        )
        if dropped:
            error = RecordUnreadable(f"{dropped} deliveries of another form were dropped")
            self.quarantine.left_out(f"queue of {subject_of(webhook_id)}", "claim", error)
        deliveries = []
        for session, event, lease, failures, body in zip(
            *(found[n::5] for n in range(5)), strict=True
        ):
            try:
                told = unpack_queued_event(event, body)
            except RecordUnreadable as error:
                await self._put_off(webhook_id, (session, event, lease), int(failures), error)
            else:
                deliveries.append(Delivery(told, int(failures), lease, now))
        return Claim(deliveries, max(0, due - now) if due else None)

    async def _put_off(
        self,
        webhook_id: str,
        lane: tuple[bytes, bytes, bytes],
        failures: int,
        error: RecordUnreadable,
    ) -> None:
        """Try a delivery later that this node cannot read, perhaps by a node of a newer version."""
        subject = f"event {lane[1].decode(errors='backslashreplace')[:_ID_CHARACTERS]}"
        self.quarantine.failed(subject, "deliver", error)
        delay_ms = self.policy.delay_ms(failures + 1, jitter())
        if await self._settle(webhook_id, lane, "UNREADABLE", delay_ms) != b"failed":
            self.quarantine.forget(subject)

    async def settle(
        self, webhook_id: str, delivery: Delivery, failure: str = "", delay_ms: int = 0
    ) -> str:
        """Record what became of a delivery; returns done, failed, dead, or late (settle.lua)."""
        event = delivery.event
        lane = (event.session_id.encode(), event.id.encode(), delivery.lease)
        return (await self._settle(webhook_id, lane, failure, delay_ms)).decode()

    async def _settle(
        self, webhook_id: str, lane: tuple[bytes, bytes, bytes], failure: str, delay_ms: int
    ) -> bytes:
        """``lane`` is the session, the event, and until when it was taken."""
        outcome: bytes = await self._executor.run(
            scripts.DELIVERY_SETTLE,
            self._queue(webhook_id),
            (*lane, failure, delay_ms, self.policy.retry_ms, MAX_DEAD),
        )
        return outcome

    async def dead(self, webhook_id: str, offset: int, limit: int) -> tuple[list[DeadLetter], int]:
        """Return a page of what was given up, oldest first, and how many there are."""
        await self.get(webhook_id)
        total, *found = await self._executor.run(
            scripts.DELIVERY_DEAD, self._queue(webhook_id), (offset, limit)
        )
        letters = [
            unpack_letter(*parts)
            for parts in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]
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
                replayed += (await self._executor.run(scripts.DELIVERY_REPLAY, keys, (0, *part)))[1]
            return replayed
        for _ in range(0, MAX_DEAD, _TOGETHER):
            seen, back = await self._executor.run(scripts.DELIVERY_REPLAY, keys, (_TOGETHER,))
            replayed += back
            if seen < _TOGETHER:
                break
            await asyncio.sleep(0)
        return replayed

    async def _put(self, webhook_id: str, target: Target, *, is_from_settings: bool) -> Webhook:
        record = pack_webhook(target, is_from_settings=is_from_settings)
        created = await self._executor.run(
            scripts.WEBHOOK_PUT, self._registry, (webhook_id, record, MAX_WEBHOOKS, _KEPT_MS)
        )
        if created is None:
            raise TooManyWebhooks(MAX_WEBHOOKS)
        return Webhook(webhook_id, target, int(created), is_from_settings, is_on=True)

    def _queue(self, webhook_id: str) -> KeySet:
        return self._keys.of_webhook(scripts.DELIVERY_ENQUEUE.keys, webhook_id)


def subject_of(webhook_id: str) -> str:
    """Return what a webhook is called in the quarantine."""
    return f"webhook {webhook_id}"
