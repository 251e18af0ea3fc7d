"""Deliveries: what happened goes to the registered endpoints, on every node, whichever comes first.

Events move from the outbox into a queue for each endpoint, and from there, signed, to the endpoint.
An endpoint that fails or is slow holds up nothing but its own queue, and one whose record or queue
is damaged stops no other.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence

from session_service.background.delivery_worker import DeliveryWorker, about
from session_service.background.webhook_client import WebhookClient
from session_service.domain.errors import RecordUnreadable, StoreUnavailable, TooManyWebhooks
from session_service.domain.events import Event
from session_service.domain.webhooks import Webhook
from session_service.store.availability import Availability
from session_service.store.events.consumer import Batch, Consumer, Entry
from session_service.store.records import unpack_event
from session_service.store.webhooks.registry import Webhooks, subject_of

_LOOK_SECONDS = 2.0  # between looks for webhooks, while there are none
_INTERVAL_SECONDS = 0.25  # between looks for events
_SUBJECT = "webhook deliveries"
_REGISTRY = "webhook registry"
_LOOK, _ENQUEUE = "look", "enqueue"

log = logging.getLogger(__name__)


async def deliver_forever(webhooks: Webhooks, consumer: Consumer) -> None:
    """Deliver what happens to the registered webhooks. Ends by cancellation.

    While there are none it costs a look now and then. If the store is away, it is waited for. A
    webhook, an event or a shard that cannot be processed does not stop the others, nor does a
    defect stop the deliveries.
    """
    if webhooks.policy.is_paused:
        log.warning("webhooks are paused by SESSION_WEBHOOKS_PAUSED: events wait in their queues")
    async with WebhookClient(webhooks.policy) as client, asyncio.TaskGroup() as group:
        await _Deliveries(webhooks, consumer, client, group).run()


class _Deliveries:
    """Moves events into the queues, and sees that each queue is emptied."""

    def __init__(
        self,
        webhooks: Webhooks,
        consumer: Consumer,
        client: WebhookClient,
        group: asyncio.TaskGroup,
    ) -> None:
        self._webhooks = webhooks
        self._consumer = consumer
        self._client = client
        self._group = group
        self._quarantine = webhooks.quarantine
        self._registered: dict[str, Webhook] = {}
        self._workers: dict[str, DeliveryWorker] = {}
        self._lost: Counter[str] = Counter()  # events, by webhooks whose queue cannot be written
        self._store_of_workers = Availability("webhook deliveries")

    async def run(self) -> None:
        """Move events until this is cancelled."""
        store = Availability("webhooks")
        while True:
            pause = self._quarantine.pause(_SUBJECT, _ENQUEUE)
            if not pause:
                pause = _INTERVAL_SECONDS
                try:
                    with self._quarantine.isolating(_SUBJECT, _ENQUEUE):
                        pause = await self._step()
                    store.answered()
                except StoreUnavailable as error:
                    await store.wait_after(error)
            await asyncio.sleep(pause)

    async def _step(self) -> float:
        """Do what there is to do; return for how long to pause then, in seconds."""
        known = await self._look()
        if self._webhooks.must_adopt_settings and not self._quarantine.has(_REGISTRY, _LOOK):
            await self._register_settings()
            known = await self._look()
        if not known:
            return _LOOK_SECONDS
        batches = await self._consumer.next(min(webhook.created_at for webhook in known))
        if not batches:
            return _INTERVAL_SECONDS
        # One that was registered before any of these happened is known after this look.
        known = await self._look()
        events = self._read(batches)
        await asyncio.gather(*(self._enqueue(webhook, events) for webhook in known))
        await self._consumer.done(batches)
        if lost := sum(batch.lost for batch in batches):
            log.warning("events were trimmed before webhooks had them", extra={"events": lost})
        return 0 if any(batch.more for batch in batches) else _INTERVAL_SECONDS

    async def _look(self) -> list[Webhook]:
        """Return the webhooks that are on, as they were last seen if the registry is damaged."""
        if not self._quarantine.must_wait(_REGISTRY, _LOOK):
            with self._quarantine.isolating(_REGISTRY, _LOOK):
                self._registered = await self._webhooks.look()
        return self._adopt(self._registered)

    async def _register_settings(self) -> None:
        try:
            await self._webhooks.adopt_settings()
        except TooManyWebhooks as error:
            log.warning(
                "not all webhooks of the settings are registered", extra={"reason": str(error)}
            )

    def _read(self, batches: Iterable[Batch]) -> list[tuple[Entry, Event]]:
        """Decode the events, each once; those that cannot be read are left out for good."""
        found = []
        for batch in batches:
            for entry in batch.entries:
                try:
                    found.append((entry, unpack_event(*entry)))
                except RecordUnreadable as error:
                    self._quarantine.left_out(f"event {entry.id}", _ENQUEUE, error)
        return found

    async def _enqueue(self, webhook: Webhook, events: Sequence[tuple[Entry, Event]]) -> None:
        wanted = [
            entry
            for entry, event in events
            if entry.id.ms >= webhook.created_at and webhook.target.wanted.matches(event)
        ]
        subject = subject_of(webhook.id)
        if not wanted:
            return
        dropped, is_queued = 0, False
        if not self._quarantine.must_wait(subject, _ENQUEUE):
            with self._quarantine.isolating(subject, _ENQUEUE):
                dropped = await self._webhooks.enqueue(webhook.id, wanted)
                is_queued = True
        if not is_queued:
            self._lost[webhook.id] += len(wanted)
        elif lost := self._lost.pop(webhook.id, 0):
            log.warning("webhook: events were lost", extra=about(webhook) | {"events": lost})
        if dropped:
            log.warning("webhook: queue is full", extra=about(webhook) | {"dropped": dropped})
        if webhook.id in self._workers:
            self._workers[webhook.id].news.set()

    def _adopt(self, webhooks: dict[str, Webhook]) -> list[Webhook]:
        """Have a worker for each webhook that is on; return those."""
        known = {webhook.id: webhook for webhook in webhooks.values() if webhook.is_on}
        if self._webhooks.policy.is_paused:
            return list(known.values())
        for webhook_id in self._workers.keys() - known.keys():
            self._workers.pop(webhook_id).task.cancel()
        for webhook_id, webhook in known.items():
            worker = self._workers.get(webhook_id)
            if worker is None:
                worker = DeliveryWorker(
                    webhook, self._webhooks, self._client, self._store_of_workers
                )
                worker.task = self._group.create_task(worker.run(), name="webhook")
                self._workers[webhook_id] = worker
            worker.webhook = webhook
        return list(known.values())
