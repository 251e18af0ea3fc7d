"""A delivery worker: empties one webhook's queue, together with the workers of other nodes."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from session_service.background.webhook_client import GONE, Outcome, WebhookClient
from session_service.domain.budgets import AWAY_SECONDS
from session_service.domain.errors import StoreUnavailable
from session_service.domain.times import jitter
from session_service.domain.webhooks import Webhook, host_of
from session_service.store.availability import Availability
from session_service.store.quarantine import Quarantine
from session_service.store.webhooks.registry import Delivery, Webhooks, subject_of

_CLAIM_SECONDS = 1.0  # at most, between looks into a queue
_UNDER_WAY = 16  # requests to one endpoint from this node
_SETTLE_TRIES = 8  # with a store that is away; then another node makes the delivery again
_CLAIM, _SETTLE, _DELIVER = "claim", "settle", "deliver"

log = logging.getLogger(__name__)


class DeliveryWorker:
    """Delivers to one endpoint.

    How many requests it makes at a time doubles with each success, and falls to one with a failure.
    """

    task: asyncio.Task[None]

    def __init__(
        self, webhook: Webhook, webhooks: Webhooks, client: WebhookClient, store: Availability
    ) -> None:
        self.webhook = webhook
        self.news = asyncio.Event()
        self._webhooks = webhooks
        self._client = client
        self._store = store
        self._quarantine: Quarantine = webhooks.quarantine
        self._subject = subject_of(webhook.id)
        self._allowed = _UNDER_WAY
        self._under_way = 0
        self._is_failing = False
        self._not_before = 0.0  # the endpoint asked for a pause until then, by the loop's clock

    async def run(self) -> None:
        """Deliver until this is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self.news.clear()
                    pause = self._pause() or await self._step(group)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self.news.wait()
        finally:
            self._store.answered(self.webhook.id)

    def _pause(self) -> float:
        """Return the seconds for which nothing is to be delivered."""
        return max(
            self._not_before - asyncio.get_running_loop().time(),
            self._quarantine.pause(self._subject, _CLAIM),
            self._quarantine.pause(self._subject, _SETTLE),
            0.0,
        )

    async def _step(self, group: asyncio.TaskGroup) -> float:
        pause = _CLAIM_SECONDS
        try:
            with self._quarantine.isolating(self._subject, _CLAIM):
                pause = await self._start_some(group)
            self._store.answered(self.webhook.id)
        except StoreUnavailable as error:
            await self._store.wait_after(error, self.webhook.id)
        return pause

    async def _start_some(self, group: asyncio.TaskGroup) -> float:
        """Start deliveries that are due; return when to look again, in seconds."""
        free = self._allowed - self._under_way
        if free <= 0:
            return _CLAIM_SECONDS
        claim = await self._webhooks.claim(self.webhook.id, free)
        for delivery in claim.deliveries:
            self._under_way += 1
            group.create_task(self._deliver(delivery))
        if claim.next_in_ms is None or len(claim.deliveries) == free:
            return _CLAIM_SECONDS
        return min(_CLAIM_SECONDS, claim.next_in_ms / 1000 + 0.001)

    async def _deliver(self, delivery: Delivery) -> None:
        outcome = Outcome("INTERNAL")  # if a defect keeps it from being made
        try:
            with self._quarantine.isolating(self._subject, _DELIVER):
                outcome = await self._client.post(self.webhook, delivery)
                self._note(outcome)
            with self._quarantine.isolating(self._subject, _SETTLE):
                await self._settle(delivery, outcome)
        finally:
            self._under_way -= 1
            self.news.set()

    def _note(self, outcome: Outcome) -> None:
        """Adapt to how the endpoint does, and log when that changes."""
        if outcome.failure:
            self._allowed = 1
            pause_until = asyncio.get_running_loop().time() + outcome.retry_after
            self._not_before = max(self._not_before, pause_until)
            if not self._is_failing:
                self._log(logging.WARNING, "webhook: endpoint fails", failure=outcome.failure)
        else:
            self._allowed = min(2 * self._allowed, _UNDER_WAY)
            if self._is_failing:
                self._log(logging.INFO, "webhook: endpoint is back")
        self._is_failing = bool(outcome.failure)

    async def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Record the outcome; if the store stays away, the delivery is made again later."""
        webhooks, webhook_id = self._webhooks, self.webhook.id
        delay_ms = 0
        if outcome.failure:
            random_ms = webhooks.policy.delay_ms(delivery.failures + 1, jitter())
            delay_ms = max(random_ms, round(1000 * outcome.retry_after))
        for _ in range(_SETTLE_TRIES):
            try:
                if outcome.failure == GONE and await webhooks.switch(webhook_id, on=False):
                    self._log(logging.WARNING, "webhook: endpoint is gone, and switched off")
                result = await webhooks.settle(webhook_id, delivery, outcome.failure, delay_ms)
            except StoreUnavailable:
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if result == "dead":
                self._log(logging.WARNING, "webhook: delivery given up", event_id=delivery.event.id)
            return

    def _log(self, level: int, message: str, **more: Any) -> None:
        log.log(level, message, extra=about(self.webhook) | more)


def about(webhook: Webhook) -> dict[str, Any]:
    """Return what a log line says of a webhook: never the path, which may have a secret."""
    return {"webhook": webhook.id, "host": host_of(webhook.target.url)}
