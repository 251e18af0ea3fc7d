"""Delivery workers: each empties one webhook's queue, beside the workers of other nodes."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from session_service.background.webhook_client import GONE, WebhookClient
from session_service.domain.errors import StoreUnavailable
from session_service.domain.times import jitter
from session_service.domain.webhooks import Outcome, Webhook, host_of
from session_service.logs import Throttled
from session_service.store.availability import Availability
from session_service.store.quarantine import Quarantine
from session_service.store.webhooks.queue import Delivery, subject_of
from session_service.store.webhooks.registry import Webhooks

_CLAIM_SECONDS = 1.0  # at most, between two claims
_MAX_REQUESTS = 16  # under way to one endpoint from this node
_RECORD_TRIES = 8  # if the store is away; then another node makes the delivery again
_CLAIM, _RECORD, _DELIVER = "claim", "settle", "deliver"

log = logging.getLogger(__name__)


class DeliveryWorker:
    """Delivers to one endpoint.

    The number of requests that may be under way doubles with each success, up to 16, and falls to
    one with a failure.
    """

    task: asyncio.Task[None]

    def __init__(
        self, webhook: Webhook, webhooks: Webhooks, client: WebhookClient, store: Availability
    ) -> None:
        self.webhook = webhook
        self._wakeup = asyncio.Event()
        self._webhooks = webhooks
        self._queues = webhooks.queues
        self._client = client
        self._measures = webhooks.measures
        self._store = store
        self._quarantine: Quarantine = webhooks.quarantine
        self._subject = subject_of(webhook.id)
        self._max_requests = _MAX_REQUESTS
        self._requests = 0
        self._is_failing = False
        self._lines: dict[str, Throttled] = {}
        self._paused_until = 0.0  # as the endpoint asked, by the loop's clock

    async def run(self) -> None:
        """Deliver until this is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wakeup.clear()
                    pause = self._pause() or await self._step(group)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._wakeup.wait()
        finally:
            self._store.answered(self.webhook.id)

    def wake(self) -> None:
        """Claim deliveries now: there are new ones, or a request has ended."""
        self._wakeup.set()

    def _pause(self) -> float:
        """Return for how many seconds nothing may be delivered."""
        return max(
            self._paused_until - asyncio.get_running_loop().time(),
            self._quarantine.pause(self._subject, _CLAIM),
            self._quarantine.pause(self._subject, _RECORD),
            0.0,
        )

    async def _step(self, group: asyncio.TaskGroup) -> float:
        pause = _CLAIM_SECONDS
        try:
            with self._quarantine.isolating(self._subject, _CLAIM):
                pause = await self._start_due(group)
            self._store.answered(self.webhook.id)
        except StoreUnavailable as error:
            await self._store.wait_after(error, self.webhook.id)
        return pause

    async def _start_due(self, group: asyncio.TaskGroup) -> float:
        """Start deliveries that are due; return in how many seconds to claim again."""
        free = self._max_requests - self._requests
        if free <= 0:
            return _CLAIM_SECONDS
        claim = await self._queues.claim(self.webhook.id, free)
        for delivery in claim.deliveries:
            self._requests += 1
            group.create_task(self._deliver(delivery))
        if claim.next_in_ms is None or len(claim.deliveries) == free:
            return _CLAIM_SECONDS
        return min(_CLAIM_SECONDS, claim.next_in_ms / 1000 + 0.001)

    async def _deliver(self, delivery: Delivery) -> None:
        outcome = Outcome("INTERNAL")  # unless the client returns another
        try:
            with self._quarantine.isolating(self._subject, _DELIVER):
                outcome = await self._client.post(self.webhook, delivery)
                self._adapt_to(outcome)
                if not (outcome.failure or delivery.failures):
                    seconds = time.time() - delivery.event.at / 1000
                    self._measures.event_delivery["webhook"].observe(seconds)
            with self._quarantine.isolating(self._subject, _RECORD):
                await self._record(delivery, outcome)
        finally:
            self._requests -= 1
            self.wake()

    def _adapt_to(self, outcome: Outcome) -> None:
        """Adapt the rate to an outcome, and log if the endpoint begins to fail or is back."""
        if outcome.failure:
            self._max_requests = 1
            pause_until = asyncio.get_running_loop().time() + outcome.retry_after
            self._paused_until = max(self._paused_until, pause_until)
            if not self._is_failing:
                self._log(logging.WARNING, "webhook: endpoint fails", failure=outcome.failure)
        else:
            self._max_requests = min(2 * self._max_requests, _MAX_REQUESTS)
            if self._is_failing:
                self._log(logging.INFO, "webhook: endpoint is back")
        self._is_failing = bool(outcome.failure)

    async def _record(self, delivery: Delivery, outcome: Outcome) -> None:
        """Record the outcome; if the store stays away, the delivery is made again later."""
        webhook_id, failure = self.webhook.id, outcome.failure
        delay_ms = 0
        if failure:
            random_ms = self._webhooks.policy.delay_ms(delivery.failures + 1, jitter())
            delay_ms = max(random_ms, round(1000 * outcome.retry_after))
        for _ in range(_RECORD_TRIES):
            try:
                if failure == GONE and await self._webhooks.set_enabled(webhook_id, enabled=False):
                    self._log(logging.WARNING, "webhook: endpoint is gone, and switched off")
                result = await self._queues.record_result(webhook_id, delivery, failure, delay_ms)
            except StoreUnavailable as error:
                await self._store.wait_after(error, webhook_id)
                continue
            kind = "delivered" if result == "done" else result
            if kind in self._measures.webhook_deliveries:
                self._measures.webhook_deliveries[kind].add()
            if result == "dead":
                self._log(logging.WARNING, "webhook: delivery given up", event_id=delivery.event.id)
            return

    def _log(self, level: int, message: str, **more: Any) -> None:
        """Write a line, the same one once a second at most, with a count."""
        line = self._lines.get(message)
        if line is None:
            line = self._lines[message] = Throttled(log, message, level)
        line.log(**log_fields(self.webhook), **more)


def log_fields(webhook: Webhook) -> dict[str, Any]:
    """Return the fields of a log line about a webhook.

    They have the host of the URL and never its path, which may contain a secret.
    """
    return {"webhook": webhook.id, "host": host_of(webhook.target.url)}
