"""Deliveries: each event is sent to the registered endpoints, by one of the nodes.

Events move from the outbox into a queue for each endpoint, and from there, signed, to the endpoint.
An endpoint that fails or is slow holds up only its own queue. If the record or the queue of a
webhook is damaged, the others continue.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from session_service.background.consume import ConsumedEvent, consume_forever
from session_service.background.delivery_worker import DeliveryWorker, log_fields
from session_service.background.webhook_client import WebhookClient
from session_service.domain.errors import TooManyWebhooks
from session_service.domain.webhooks import Webhook, WebhookPolicy
from session_service.logs import Throttled
from session_service.store.availability import Availability
from session_service.store.events.consumer import Consumer
from session_service.store.webhooks.queue import subject_of
from session_service.store.webhooks.registry import Webhooks

_REGISTRY = "webhook registry"
_LIST, _ENQUEUE = "list", "enqueue"

log = logging.getLogger(__name__)


async def deliver_forever(
    webhooks: Webhooks,
    consumer: Consumer,
    make_client: Callable[[WebhookPolicy], WebhookClient] = WebhookClient,
) -> None:
    """Deliver events to the registered webhooks, until this is cancelled.

    While there are none it costs one read of the registry every two seconds. If the store is away,
    it is waited for. A webhook, an event or a shard that cannot be processed does not stop the
    others, nor does a defect stop the deliveries.
    """
    if webhooks.policy.is_paused:
        log.warning("webhooks are paused by SESSION_WEBHOOKS_PAUSED: events wait in their queues")
    async with make_client(webhooks.policy) as client, asyncio.TaskGroup() as group:
        await consume_forever(consumer, _Deliveries(webhooks, client, group))


class _Deliveries:
    """Moves events into the queues, and runs a worker for each queue."""

    name = "webhook deliveries"

    def __init__(self, webhooks: Webhooks, client: WebhookClient, group: asyncio.TaskGroup) -> None:
        self._webhooks = webhooks
        self._client = client
        self._group = group
        self._quarantine = webhooks.quarantine
        self._registered: dict[str, Webhook] = {}
        self._workers: dict[str, DeliveryWorker] = {}
        self._lost: Counter[str] = Counter()  # events by webhook, while its queue cannot be written
        self._full = Throttled(log, "webhook: queue is full")
        self._store_of_workers = Availability("webhook deliveries")

    async def since(self) -> int | None:
        """Return when the first webhook was registered (epoch ms), or None if there is none."""
        enabled = await self._enabled()
        if self._webhooks.must_adopt_settings and not self._quarantine.is_failing(_REGISTRY, _LIST):
            await self._register_settings()
            enabled = await self._enabled()
        return min((webhook.created_at for webhook in enabled), default=None)

    async def handle(self, events: Sequence[ConsumedEvent]) -> None:
        """Put events into the queues of the webhooks that select them."""
        # A webhook that was registered before any of these happened is in the list by now.
        enabled = await self._enabled()
        await asyncio.gather(*(self._enqueue(webhook, events) for webhook in enabled))

    async def _enabled(self) -> list[Webhook]:
        """Return the webhooks that are enabled, each with a worker.

        If the registry is damaged, they are as they were last read.
        """
        if not self._quarantine.must_wait(_REGISTRY, _LIST):
            with self._quarantine.isolating(_REGISTRY, _LIST):
                self._registered = await self._webhooks.list_all()
        return self._with_workers(self._registered)

    async def _register_settings(self) -> None:
        try:
            await self._webhooks.adopt_settings()
        except TooManyWebhooks as error:
            log.warning(
                "not all webhooks of the settings are registered", extra={"reason": str(error)}
            )

    async def _enqueue(self, webhook: Webhook, events: Sequence[ConsumedEvent]) -> None:
        entries = [
            entry
            for entry, event in events
            if event.at >= webhook.created_at and webhook.target.filter.matches(event)
        ]
        if not entries:
            return
        subject = subject_of(webhook.id)
        dropped, is_queued = 0, False
        if not self._quarantine.must_wait(subject, _ENQUEUE):
            with self._quarantine.isolating(subject, _ENQUEUE):
                dropped = await self._webhooks.queues.enqueue(webhook.id, entries)
                is_queued = True
        if not is_queued:
            self._lost[webhook.id] += len(entries)
        elif lost := self._lost.pop(webhook.id, 0):
            log.warning("webhook: events were lost", extra=log_fields(webhook) | {"events": lost})
        if dropped:
            self._full.log(**log_fields(webhook), dropped=dropped)
        if webhook.id in self._workers:
            self._workers[webhook.id].wake()

    def _with_workers(self, webhooks: dict[str, Webhook]) -> list[Webhook]:
        """Start and stop workers so that each enabled webhook has one; return these webhooks."""
        enabled = {webhook.id: webhook for webhook in webhooks.values() if webhook.is_enabled}
        if self._webhooks.policy.is_paused:
            return list(enabled.values())
        for webhook_id in self._workers.keys() - enabled.keys():
            self._workers.pop(webhook_id).task.cancel()
        for webhook_id, webhook in enabled.items():
            worker = self._workers.get(webhook_id)
            if worker is None:
                worker = DeliveryWorker(
                    webhook, self._webhooks, self._client, self._store_of_workers
                )
                worker.task = self._group.create_task(worker.run(), name="webhook")
                self._workers[webhook_id] = worker
            worker.webhook = webhook
        return list(enabled.values())
