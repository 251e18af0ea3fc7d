"""Deliveries: what happened goes to the registered endpoints, on every node, whichever comes first.

Events move from the outbox into a queue for each endpoint, and from there, signed, to the endpoint.
An endpoint that fails or is slow holds up nothing but its own queue.
"""

import asyncio
import logging
import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec

from session_service import __version__
from session_service.domain.errors import StoreUnavailable, TooManyWebhooks
from session_service.domain.webhooks import (
    Webhook,
    WebhookPolicy,
    host_of,
    is_public,
    read_secret,
    signature,
)
from session_service.store.consumer import Consumer, Entry
from session_service.store.records import unpack_event
from session_service.store.webhooks import Delivery, Webhooks

_LOOK_SECONDS = 2.0  # between looks for webhooks, while there are none
_INTERVAL_SECONDS = 0.25  # between looks for events
_AWAY_SECONDS = 0.5  # until a store that was away is asked again
_CLAIM_SECONDS = 1.0  # at most, between looks into a queue
_UNDER_WAY = 16  # requests to one endpoint from this node
_GONE = 410

log = logging.getLogger(__name__)


async def deliver_forever(webhooks: Webhooks, consumer: Consumer) -> None:
    """Deliver what happens to the registered webhooks. Ends by cancellation.

    While there are none it costs a look now and then. A store that is away is waited for; any other
    error is a defect and ends the deliveries.
    """
    async with _client(webhooks.policy) as client, asyncio.TaskGroup() as group:
        await _Deliveries(webhooks, consumer, client, group).run()


class _Deliveries:
    """Moves events into the queues, and sees that each queue is emptied."""

    def __init__(
        self,
        webhooks: Webhooks,
        consumer: Consumer,
        client: aiohttp.ClientSession,
        group: asyncio.TaskGroup,
    ) -> None:
        self._webhooks = webhooks
        self._consumer = consumer
        self._client = client
        self._group = group
        self._couriers: dict[str, _Courier] = {}
        self._is_adopted = False  # whether the settings' endpoints are registered

    async def run(self) -> None:
        is_away = False
        while True:
            try:
                pause = await self._step()
            except StoreUnavailable as error:
                if not is_away:
                    log.warning("webhooks: store unavailable", extra={"reason": error.reason})
                is_away, pause = True, _AWAY_SECONDS
            else:
                is_away = False
            await asyncio.sleep(pause)

    async def _step(self) -> float:
        """Do what there is to do; return for how long to pause then, in seconds."""
        if not self._is_adopted:
            try:
                await self._webhooks.adopt_settings()
            except TooManyWebhooks as error:
                log.warning(
                    "not all webhooks of the settings are registered", extra={"reason": str(error)}
                )
            self._is_adopted = True
        known = self._adopt(await self._webhooks.look())
        if not known:
            return _LOOK_SECONDS
        batches = await self._consumer.next(min(webhook.created_at for webhook in known))
        if not batches:
            return _INTERVAL_SECONDS
        # One that was registered before any of these happened is known after this look.
        known = self._adopt(await self._webhooks.look())
        entries = [entry for batch in batches for entry in batch.entries]
        await asyncio.gather(*(self._enqueue(webhook, entries) for webhook in known))
        await self._consumer.done(batches)
        if lost := sum(batch.lost for batch in batches):
            log.warning("events were trimmed before webhooks had them", extra={"events": lost})
        return 0 if any(batch.more for batch in batches) else _INTERVAL_SECONDS

    async def _enqueue(self, webhook: Webhook, entries: Sequence[Entry]) -> None:
        wanted = [
            entry
            for entry in entries
            if entry.id.ms >= webhook.created_at
            and webhook.target.wanted.matches(unpack_event(*entry))
        ]
        if not wanted:
            return
        if dropped := await self._webhooks.enqueue(webhook.id, wanted):
            log.warning("webhook: queue is full", extra=_about(webhook) | {"dropped": dropped})
        self._couriers[webhook.id].news.set()

    def _adopt(self, webhooks: dict[str, Webhook]) -> list[Webhook]:
        """Have a courier for each webhook that is on; return those."""
        known = {webhook.id: webhook for webhook in webhooks.values() if webhook.is_on}
        for webhook_id in self._couriers.keys() - known.keys():
            self._couriers.pop(webhook_id).task.cancel()
        for webhook_id, webhook in known.items():
            courier = self._couriers.get(webhook_id)
            if courier is None:
                courier = _Courier(webhook, self._webhooks, self._client)
                courier.task = self._group.create_task(courier.run(), name="webhook")
                self._couriers[webhook_id] = courier
            courier.webhook = webhook
        return list(known.values())


class _Courier:
    """Empties one webhook's queue, together with those of other nodes.

    How many requests it makes at a time doubles with each success, and falls to one with a failure.
    """

    task: asyncio.Task[None]

    def __init__(self, webhook: Webhook, webhooks: Webhooks, client: aiohttp.ClientSession) -> None:
        self.webhook = webhook
        self.news = asyncio.Event()
        self._webhooks = webhooks
        self._client = client
        self._allowed = _UNDER_WAY
        self._under_way = 0
        self._is_failing = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self.news.clear()
                pause = _CLAIM_SECONDS
                with suppress(StoreUnavailable):  # which is logged where events are read
                    pause = await self._start_some(group)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self.news.wait()

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
        try:
            failure = await self._post(delivery)
            if failure:
                self._allowed = 1
                if not self._is_failing:
                    self._log(logging.WARNING, "webhook: endpoint fails", failure=failure)
            else:
                self._allowed = min(2 * self._allowed, _UNDER_WAY)
                if self._is_failing:
                    self._log(logging.INFO, "webhook: endpoint is back")
            self._is_failing = bool(failure)
            await self._settle(delivery, failure)
        finally:
            self._under_way -= 1
            self.news.set()

    async def _settle(self, delivery: Delivery, failure: str) -> None:
        """Tell the store; where it stays away, the delivery is made again later."""
        policy, webhook = self._webhooks.policy, self.webhook
        delay = policy.delay_ms(delivery.failures + 1, random.random()) if failure else 0  # noqa: S311 - jitter
        for _ in range(8):
            try:
                if failure == _status(_GONE) and await self._webhooks.switch(webhook.id, on=False):
                    self._log(logging.WARNING, "webhook: endpoint is gone, and switched off")
                outcome = await self._webhooks.settle(webhook.id, delivery, failure, delay)
            except StoreUnavailable:
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            if outcome == "dead":
                self._log(logging.WARNING, "webhook: delivery given up", event=delivery.event.id)
            return

    async def _post(self, delivery: Delivery) -> str:
        """Make a delivery; returns in a word why it failed, or nothing."""
        target, event = self.webhook.target, delivery.event
        body = msgspec.json.encode(event.cloud_event())
        timestamp = delivery.claimed_at // 1000
        headers = {
            "Content-Type": "application/cloudevents+json",
            "webhook-id": event.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(read_secret(target.secret), event.id, timestamp, body),
        }
        try:
            async with self._client.post(
                target.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return "" if 200 <= answer.status < 300 else _status(answer.status)
        except TimeoutError:
            return "TIMEOUT"
        except aiohttp.ClientSSLError:
            return "TLS"
        except aiohttp.ClientConnectorError as error:
            is_refused = isinstance(error.os_error, _AddressNotAllowedError)
            return "ADDRESS_NOT_ALLOWED" if is_refused else "CONNECTION"
        except (aiohttp.ClientError, OSError, ValueError):
            return "CONNECTION"

    def _log(self, level: int, message: str, **more: Any) -> None:
        log.log(level, message, extra=_about(self.webhook) | more)


class _AddressNotAllowedError(OSError):
    """An endpoint's name leads to an address that is not public."""


def _client(policy: WebhookPolicy) -> aiohttp.ClientSession:
    """Make a client that connects to public addresses only, whatever a name is resolved to."""

    def open_socket(address: Any) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        if not policy.allow_private and not is_public(host):
            raise _AddressNotAllowedError(0, "address is not public")
        return socket.socket(family, kind, protocol)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, socket_factory=open_socket),
        timeout=aiohttp.ClientTimeout(total=policy.timeout_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"session-service/{__version__}"},
        auto_decompress=False,
    )


def _status(status: int) -> str:
    return f"HTTP_{status}"


def _about(webhook: Webhook) -> dict[str, Any]:
    """Return what a log line says of a webhook: never the path, which may have a secret."""
    return {"webhook": webhook.id, "host": host_of(webhook.target.url)}
