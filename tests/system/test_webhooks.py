"""Webhook deliveries: signed, at least once, in order, while nodes and endpoints fail."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import ClientSession
from redis import Redis

from tests.support.api import SESSIONS, create, post
from tests.support.processes import ServiceProcess, Start
from tests.support.servers import store_server, valkey_binary
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, WEBHOOKS, Receiver

# The shortest pauses and request timeouts.
BRISK: dict[str, str] = {
    "SESSION_WEBHOOKS_ALLOW_PRIVATE": "true",
    "SESSION_WEBHOOKS_RETRY_SECONDS": "0.05",
    "SESSION_WEBHOOKS_TIMEOUT_SECONDS": "1",
}


Receive = Callable[[], Awaitable[Receiver]]


@pytest.fixture
async def receive() -> AsyncIterator[Receive]:
    """Start receivers."""
    async with AsyncExitStack() as stack:

        async def start() -> Receiver:
            receiver = Receiver()
            await receiver.start()
            stack.push_async_callback(receiver.stop)
            return receiver

        yield start


async def register(client: ClientSession, receiver: Receiver, **fields: Any) -> str:
    webhook = await post(client, WEBHOOKS, {"url": receiver.url, "secret": SECRET, **fields})
    webhook_id: str = webhook["webhookId"]
    return webhook_id


async def live(client: ClientSession) -> str:
    """Create a session, send a message, renew and end it: four events."""
    created = await create(client, timeoutConfig={"autoRenew": False})
    path = f"{SESSIONS}/{created['sessionId']}"
    await post(client, f"{path}/messages", {"content": "Hello"})
    await post(client, f"{path}/renew")
    async with client.delete(path) as response:
        assert response.status == 200
    session_id: str = created["sessionId"]
    return session_id


LIFE = ["created", "message", "renewed", "ended"]


def has_all(receiver: Receiver, sessions: list[str]) -> Callable[[], bool]:
    return lambda: all(receiver.types(each) == LIFE for each in sessions)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def has_been_asked(receiver: Receiver, times: int) -> Callable[[], bool]:
    return lambda: receiver.requests >= times


async def test_events_are_delivered_signed_and_in_order(
    start: Start, store_url: str, receive: Receive
) -> None:
    """Matching events arrive as CloudEvents, each once if nothing fails."""
    service = start(REDIS_URL=store_url, **BRISK)
    everything, ends = await receive(), await receive()
    async with service.client() as client:
        await register(client, everything)
        await register(client, ends, types=["session.ended"])
        sessions = await asyncio.gather(*(live(client) for _ in range(20)))
        await wait_until(has_all(everything, sessions))
        await wait_until(lambda: all(ends.types(each) == ["ended"] for each in sessions))
    assert everything.requests == 80
    assert ends.requests == 20
    assert everything.headers[0]["Content-Type"] == "application/cloudevents+json"
    assert SECRET not in service.stderr


async def test_an_endpoint_of_the_settings_is_told(
    start: Start, store_url: str, receive: Receive
) -> None:
    """Several workers deliver each event once, to any address of the settings."""
    receiver = await receive()
    endpoints = json.dumps([{"url": receiver.url, "secret": SECRET}])
    strict = {**BRISK, "SESSION_WEBHOOKS_ALLOW_PRIVATE": "false"}
    service = start(REDIS_URL=store_url, WEB_CONCURRENCY="2", SESSION_WEBHOOKS=endpoints, **strict)
    async with service.client() as client:

        async def is_registered() -> bool:
            async with client.get(WEBHOOKS) as response:
                return [w["fromSettings"] for w in (await response.json())["webhooks"]] == [True]

        await wait_until(is_registered)
        sessions = await asyncio.gather(*(live(client) for _ in range(20)))
        await wait_until(has_all(receiver, sessions))
    assert receiver.requests == 80


async def test_a_consumer_that_was_away_gets_everything(
    start: Start, store_url: str, receive: Receive
) -> None:
    """An endpoint that failed, hung, redirected or was down gets all events in order."""
    service = start(REDIS_URL=store_url, **BRISK)
    receiver = await receive()
    async with service.client() as client:
        await register(client, receiver)
        sessions = []
        for status, is_hanging in ((500, False), (204, True), (307, False)):
            receiver.status, receiver.is_hanging = status, is_hanging
            before = receiver.requests
            sessions += await asyncio.gather(*(live(client) for _ in range(5)))
            await wait_until(has_been_asked(receiver, before + 2))
        receiver.status, receiver.is_hanging = 204, False
        await wait_until(has_all(receiver, sessions), 30)
    assert receiver.redirects_followed == 0
    messages = [line["event"] for line in service.log]
    assert "webhook: endpoint fails" in messages
    assert "webhook: endpoint is back" in messages


async def test_a_slow_endpoint_delays_no_other(
    start: Start, store_url: str, receive: Receive
) -> None:
    """Requests to a hanging endpoint time out, and another endpoint gets everything meanwhile."""
    service = start(REDIS_URL=store_url, **{**BRISK, "SESSION_WEBHOOKS_TIMEOUT_SECONDS": "60"})
    slow, fast = await receive(), await receive()
    slow.is_hanging = True
    async with service.client() as client:
        await register(client, slow)
        await register(client, fast)
        sessions = await asyncio.gather(*(live(client) for _ in range(50)))
        await wait_until(has_all(fast, sessions))
    assert slow.received == {}
    assert slow.requests <= 16


async def test_a_cluster_serves_too(start: Start, receive: Receive) -> None:
    """Deliveries work on a cluster, which refuses scripts across slots."""
    port = free_port()
    with store_server(valkey_binary(), "--port", str(port), "--cluster-enabled", "yes") as url:
        with Redis.from_url(url) as redis:
            redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        service = start(REDIS_URL=f"redis+cluster://127.0.0.1:{port}", **BRISK)
        receiver = await receive()
        async with service.client() as client:

            async def is_ready() -> bool:
                async with client.get(WEBHOOKS) as response:
                    return response.status == 200

            await wait_until(is_ready)
            await register(client, receiver)
            sessions = await asyncio.gather(*(live(client) for _ in range(20)))
            await wait_until(has_all(receiver, sessions))


async def test_a_node_that_dies_loses_nothing(
    start: Start, store_url: str, receive: Receive
) -> None:
    """If a node is killed during deliveries, the others make them."""
    receiver = await receive()
    nodes = [start(REDIS_URL=store_url, **BRISK) for _ in range(3)]
    async with nodes[0].client() as client:
        await register(client, receiver)

        async def keep_living() -> list[str]:
            return [await live(client) for _ in range(20)]

        living = asyncio.gather(*(keep_living() for _ in range(4)))
        await wait_until(has_been_asked(receiver, 20))
        receiver.is_hanging = True
        # A node has at most 16 requests under way, so more than one has some.
        await wait_until(has_been_asked(receiver, receiver.requests + 20))
        nodes[1].kill()
        nodes[2].kill()
        receiver.is_hanging = False
        sessions = [each for some in await living for each in some]
        await wait_until(has_all(receiver, sessions), 60)


async def test_what_is_given_up_can_be_read_and_replayed(
    start: Start, store_url: str, receive: Receive
) -> None:
    """Dead letters are delivered in order once the endpoint works and they are replayed."""
    service = start(REDIS_URL=store_url, SESSION_WEBHOOKS_RETRY_HOURS="0.0001", **BRISK)
    receiver = await receive()
    receiver.status = 503
    async with service.client() as client:
        dead = f"{WEBHOOKS}/{await register(client, receiver)}/dead"
        session_id = await live(client)

        async def letters() -> list[Any]:
            async with client.get(dead) as response:
                found: list[Any] = (await response.json())["deadLetters"]
                return found if len(found) == 4 else []

        found = await wait_until(letters)
        assert [each["event"]["type"].removeprefix("session.") for each in found] == LIFE
        assert {each["lastFailure"] for each in found} == {"HTTP_503"}
        receiver.status = 204
        assert await post(client, f"{dead}/replay", {}) == {"replayed": 4}
        await wait_until(has_all(receiver, [session_id]))

        def given_up() -> list[Any]:  # lines, once a second, of one or more deliveries each
            lines = [line for line in service.log if line["event"] == "webhook: delivery given up"]
            return lines if sum(line["count"] for line in lines) == 4 else []

        lines = await wait_until(given_up)
    assert {line["event_id"] for line in lines} <= {each["id"] for each in found}


async def test_an_endpoint_that_asks_for_a_pause_gets_it(
    start: Start, store_url: str, receive: Receive
) -> None:
    """Retry-After pauses all deliveries of its endpoint, and of no other."""
    service = start(REDIS_URL=store_url, **BRISK)
    busy, other = await receive(), await receive()
    busy.status, busy.extra_headers = 429, {"Retry-After": "3000"}
    async with service.client() as client:
        await register(client, busy)
        await register(client, other)
        await live(client)
        await wait_until(has_been_asked(busy, 1))
        sessions = await asyncio.gather(*(live(client) for _ in range(20)))
        await wait_until(has_all(other, sessions))
    assert busy.requests == 1


async def test_deliveries_are_signed_by_both_secrets_during_a_rotation(
    start: Start, store_url: str, receive: Receive
) -> None:
    """Receivers with the previous and the new secret accept the signature."""
    service = start(REDIS_URL=store_url, **BRISK)
    receiver = await receive()
    async with service.client() as client:
        webhook = f"{WEBHOOKS}/{await register(client, receiver)}"
        rotated = await post(client, f"{webhook}/rotate", {})
        session_id = await live(client)  # the receiver checks with the previous secret
        await wait_until(has_all(receiver, [session_id]))
        headers = receiver.headers[-1]
        assert len(headers["webhook-signature"].split(" ")) == 2
        await post(client, f"{webhook}/rotate", {"secret": SECRET, "overlapHours": 0})
        await wait_until(has_all(receiver, [await live(client)]))
    assert len(receiver.headers[-1]["webhook-signature"].split(" ")) == 1
    assert rotated["secret"] not in service.stderr


async def test_a_paused_node_queues_and_delivers_nothing(
    start: Start, store_url: str, receive: Receive
) -> None:
    """Events queued by a paused node are delivered by another node."""
    receiver = await receive()
    endpoints = json.dumps([{"url": receiver.url, "secret": SECRET}])
    paused = start(
        REDIS_URL=store_url, SESSION_WEBHOOKS=endpoints, SESSION_WEBHOOKS_PAUSED="true", **BRISK
    )
    async with paused.client() as client:

        async def queued() -> int:
            async with client.get(WEBHOOKS) as response:
                return sum(each["queued"] for each in (await response.json())["webhooks"])

        async def is_registered() -> bool:
            async with client.get(WEBHOOKS) as response:
                return bool((await response.json())["webhooks"])

        await wait_until(is_registered)
        sessions = [await live(client) for _ in range(3)]

        async def are_queued() -> bool:
            return await queued() == 12

        await wait_until(are_queued)
        assert receiver.requests == 0
        start(REDIS_URL=store_url, SESSION_WEBHOOKS=endpoints, **BRISK)
        await wait_until(has_all(receiver, sessions))


@pytest.mark.parametrize("how", ["FLUSHALL", "SWAPDB"])
async def test_endpoints_of_the_settings_are_registered_again(
    start: Start, store_url: str, receive: Receive, how: str
) -> None:
    """Endpoints are registered again if the data are lost while the node runs."""
    receiver = await receive()
    endpoints = json.dumps([{"url": receiver.url, "secret": SECRET}])
    service = start(REDIS_URL=store_url, SESSION_WEBHOOKS=endpoints, **BRISK)
    async with service.client() as client:

        async def is_registered() -> bool:
            async with client.get(WEBHOOKS) as response:
                return len((await response.json())["webhooks"]) == 1

        await wait_until(is_registered)
        with Redis.from_url(store_url) as redis:
            redis.execute_command(*(["FLUSHALL"] if how == "FLUSHALL" else ["SWAPDB", 0, 1]))
        await wait_until(is_registered)
        await wait_until(has_all(receiver, [await live(client)]))


async def test_a_full_store_does_not_stop_deliveries(
    start: Start, store_url: str, receive: Receive
) -> None:
    """With a full store deliveries and ends still work, and free memory."""
    service = start(REDIS_URL=store_url, **BRISK)
    receiver = await receive()
    async with service.client() as client:
        await register(client, receiver)
        sessions = [(await create(client))["sessionId"] for _ in range(5)]
        await wait_until(lambda: all(receiver.types(each) == ["created"] for each in sessions))
        with Redis.from_url(store_url) as redis:
            redis.config_set("maxmemory", 1)
            for each in sessions:
                async with client.delete(f"{SESSIONS}/{each}") as response:
                    assert response.status == 200
            await wait_until(lambda: all(receiver.types(s)[1:] == ["ended"] for s in sessions))


async def test_an_endpoint_that_is_gone_is_switched_off(
    start: Start, store_url: str, receive: Receive
) -> None:
    """A 410 disables an endpoint until a replay, which delivers everything."""
    service = start(REDIS_URL=store_url, **BRISK)
    receiver = await receive()
    receiver.status = 410
    async with service.client() as client:
        webhook = f"{WEBHOOKS}/{await register(client, receiver)}"
        session_id = await live(client)

        async def is_gone() -> bool:
            async with client.get(webhook) as response:
                return bool((await response.json())["status"] == "gone")

        await wait_until(is_gone)
        receiver.status = 204
        await live(client)
        await post(client, f"{webhook}/dead/replay", {})
        await wait_until(lambda: receiver.types(session_id)[:1] == ["created"], 30)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_a_private_address_is_not_connected_to(
    start: Start, store_url: str, receive: Receive, name: str
) -> None:
    """A private address is refused even if it was allowed, or public, at registration."""
    receiver = await receive()
    before = start(REDIS_URL=store_url, **BRISK)
    async with before.client() as client:
        receiver.url = receiver.url.replace("127.0.0.1", name)
        webhook = f"{WEBHOOKS}/{await register(client, receiver)}"
    before.kill()
    strict = {"SESSION_WEBHOOKS_ALLOW_PRIVATE": "false", "SESSION_WEBHOOKS_RETRY_HOURS": "1e-6"}
    after = start(REDIS_URL=store_url, **{**BRISK, **strict})
    async with after.client() as client:
        await live(client)

        async def failure() -> Any:
            async with client.get(f"{webhook}/dead") as response:
                letters = (await response.json())["deadLetters"]
                return letters[0]["lastFailure"] if letters else ""

        assert await wait_until(failure) == "ADDRESS_NOT_ALLOWED"
    assert receiver.requests == 0


def test_a_bad_endpoint_stops_the_start(start: Start) -> None:
    """One line for each problem, and no secret."""
    service: ServiceProcess = start(
        REDIS_URL="memory://", SESSION_WEBHOOKS='[{"url": "ftp://localhost", "secret": "hush"}]'
    )
    assert service.wait() == 2
    assert [line.partition(" ")[0] for line in service.stderr.splitlines()] == [
        "SESSION_WEBHOOKS[0].url",
        "SESSION_WEBHOOKS[0].secret",
    ]
    assert "hush" not in service.stderr
