"""POST /api/messaging/webhooks/{webhookId}/test: a sample is sent, and the outcome returned."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from session_service.background.webhook_client import WebhookClient
from session_service.client import SessionService
from session_service.composition import Store
from session_service.domain.addresses import read_networks
from session_service.domain.budgets import WEBHOOK_TESTS
from session_service.domain.event_types import EVENT_TYPES
from session_service.domain.events import EventFilter
from session_service.domain.rates import RateLimit
from session_service.domain.webhooks import QueueSizes, Target, WebhookPolicy
from session_service.store.webhooks.registry import Webhooks
from session_service.web.http.state import AppState
from session_service.web.http.webhook_tests import WebhookTests
from tests.support.api import Client, assert_error
from tests.support.service import app_state
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, WEBHOOKS, Receiver

pytestmark = pytest.mark.parametrize("store_url", ["memory://"])


@pytest.fixture
def webhook_policy() -> WebhookPolicy:
    return WebhookPolicy(timeout_seconds=0.2, allowed_networks=read_networks("127.0.0.1"))


@pytest.fixture
async def sender(store: Store) -> AsyncIterator[WebhookClient]:
    async with WebhookClient(store.webhooks.policy) as client:
        yield client


@pytest.fixture
def now() -> list[int]:
    """The clock of the limit, in microseconds."""
    return [0]


@pytest.fixture
def service(store: Store, sender: WebhookClient, now: list[int]) -> AppState:
    tests = WebhookTests(sender.post, limit=RateLimit(10, 10), clock=lambda: now[0])
    return app_state(store, webhook_tests=tests)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def hook(webhooks: Webhooks, receiver: Receiver) -> str:
    """The id of an endpoint that selects one type."""
    target = Target(receiver.url, SECRET, EventFilter(types=frozenset(("ended",))))
    return (await webhooks.add(target)).id


async def send(client: Client, webhook_id: str, name: str = "created") -> dict[str, Any]:
    response = await client.post(f"{WEBHOOKS}/{webhook_id}/test", json={"type": name})
    assert response.status == 200, await response.text()
    outcome: dict[str, Any] = await response.json()
    return outcome


async def test_a_sample_of_each_type_is_delivered(
    client: Client, hook: str, receiver: Receiver
) -> None:
    """The endpoint gets a signed sample of any type at once, and the response has it, too."""
    for name in EVENT_TYPES:
        tested = await send(client, hook, f"session.{name}")
        event = tested.pop("event")
        assert (event["type"], event["test"]) == (f"session.{name}", True)
        assert receiver.received[event["subject"]][-1] == event
        assert tested.pop("durationMs") >= 0
        assert tested == {"delivered": True, "status": 204, "failure": None}
    assert receiver.requests == len(EVENT_TYPES)
    assert receiver.headers[0]["Content-Type"] == "application/cloudevents+json"


async def test_a_failure_is_an_outcome(
    client: Client, hook: str, receiver: Receiver, webhooks: Webhooks
) -> None:
    """A failed test is a 200 with the reason. It is not queued, and 410 switches nothing off."""
    for status, failure in ((503, "HTTP_503"), (302, "HTTP_302"), (410, "HTTP_410")):
        receiver.status = status
        tested = await send(client, hook)
        assert (tested["delivered"], tested["status"], tested["failure"]) == (
            False, status, failure
        )  # fmt: skip
    receiver.is_hanging = True
    tested = await send(client, hook)
    assert (tested["status"], tested["failure"]) == (None, "TIMEOUT")
    assert tested["durationMs"] >= 200
    await receiver.stop()
    assert (await send(client, hook))["failure"] == "CONNECTION"
    assert (receiver.requests, receiver.redirects_followed) == (4, 0)
    assert await webhooks.queues.sizes([hook]) == [QueueSizes(0, 0, 0)]
    assert (await webhooks.get(hook)).is_enabled


async def test_a_test_does_not_reach_into_the_network(
    client: Client, webhooks: Webhooks, receiver: Receiver
) -> None:
    """An address that is not allowed is refused when connecting, as for a delivery."""
    webhook = await webhooks.add(Target(receiver.url.replace("127.0.0.1", "127.0.0.2"), SECRET))
    tested = await send(client, webhook.id)
    assert (tested["delivered"], tested["failure"]) == (False, "ADDRESS_NOT_ALLOWED")
    assert receiver.requests == 0


async def test_both_secrets_sign(client: Client, webhooks: Webhooks, receiver: Receiver) -> None:
    """During an overlap a sample has two signatures; the receiver verifies by the older one."""
    other = "whsec_" + "A" * 32
    webhook = await webhooks.add(Target(receiver.url, other, previous_secret=SECRET))
    assert (await send(client, webhook.id))["delivered"]
    assert receiver.headers[0]["webhook-signature"].count("v1,") == 2


@pytest.mark.parametrize("body", [{}, {"type": "born"}, {"type": None}, {"type": "session."}])
async def test_a_type_is_required(client: Client, hook: str, body: dict[str, Any]) -> None:
    """The message names the types."""
    response = await client.post(f"{WEBHOOKS}/{hook}/test", json=body)
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["details"] == "type"
    assert "one of created, message" in error["message"]


async def test_a_service_is_no_load_generator(
    client: Client, hook: str, receiver: Receiver, now: list[int]
) -> None:
    """There is a limit on tests; after it, the same request is sent again and gets through."""
    path, key = f"{WEBHOOKS}/{hook}/test", {"Idempotency-Key": "k"}
    for _ in range(10):
        await send(client, hook)
    response = await client.post(path, json={"type": "ended"}, headers=key)
    error = await assert_error(response, 429, "RATE_LIMITED")
    assert "10 tests of webhooks are made in 10 seconds" in error["details"]
    assert response.headers["Retry-After"] == "1"
    assert receiver.requests == 10
    now[0] += 1_000_000
    outcomes = [await client.post(path, json={"type": "ended"}, headers=key) for _ in range(2)]
    assert [each.status for each in outcomes] == [200, 200]
    assert await outcomes[0].text() == await outcomes[1].text()
    assert receiver.requests == 11


async def test_slow_endpoints_do_not_take_all_requests(
    client: Client, hook: str, receiver: Receiver
) -> None:
    """A few tests may be in progress at a time, and one more is refused."""
    receiver.is_hanging = True
    tests = [asyncio.create_task(send(client, hook)) for _ in range(WEBHOOK_TESTS)]
    await wait_until(lambda: receiver.requests == WEBHOOK_TESTS)
    response = await client.post(f"{WEBHOOKS}/{hook}/test", json={"type": "ended"})
    error = await assert_error(response, 429, "RATE_LIMITED")
    assert "may be in progress" in error["details"]
    assert {each["failure"] for each in await asyncio.gather(*tests)} == {"TIMEOUT"}
    receiver.is_hanging = False
    assert (await send(client, hook))["delivered"]


async def test_the_client_has_the_outcome(
    caller: SessionService, hook: str, receiver: Receiver
) -> None:
    """`webhooks.test` sends a sample and returns the outcome."""
    receiver.status = 500
    tested = await caller.webhooks.test(hook, "expiring")
    assert (tested.delivered, tested.status, tested.failure) == (False, 500, "HTTP_500")
    assert tested.event["data"]["minutesRemaining"] == 5
    assert json.dumps(tested.event)
