"""A response that was lost with its node can be requested from another."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from tests.support.api import SESSIONS
from tests.support.factories import session_body
from tests.support.processes import Start
from tests.support.waiting import wait_until

CREATION = f'{{"userId":"{uuid4()}","agentId":"{uuid4()}"}}'
HELLO = '{"content":"Hello"}'


@pytest.mark.parametrize(
    "operation",
    [
        ("POST", SESSIONS, CREATION, 201),
        ("POST", "{session}/messages", HELLO, 201),
        ("POST", "{session}/renew", "", 200),
        ("DELETE", "{session}", "", 200),
    ],
    ids=["create", "send", "renew", "end"],
)
async def test_a_node_killed_after_the_effect(
    start: Start, store_url: str, operation: tuple[str, str, str, int]
) -> None:
    """A retry on another node gets the response, and nothing happens twice."""
    method, path, body, status = operation
    doomed, other = start(REDIS_URL=store_url), start(REDIS_URL=store_url)
    store = Redis.from_url(store_url)
    async with other.client() as client:
        session = f"{SESSIONS}/{(await asked(client, 'POST', SESSIONS, parties()))['sessionId']}"
        url = path.format(session=session)
        reader, writer = await asyncio.open_connection("127.0.0.1", doomed.port)
        writer.write(
            f"{method} {url} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )

        async def has_happened() -> bool:
            return bool(await store.keys("*:idem:*"))

        await wait_until(has_happened, every=0)
        doomed.kill()
        lost = await answer_body(reader)
        writer.close()

        responses = []
        for _ in range(2):
            headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
            async with client.request(method, url, data=body, headers=headers) as response:
                responses.append((response.status, await response.read()))
        assert responses[0] == responses[1]
        assert responses[0][0] == status
        assert lost in (b"", responses[0][1])
        await check_one_effect(client, path, session)
    await store.aclose()


async def check_one_effect(client: ClientSession, path: str, session: str) -> None:
    total = (await asked(client, "GET", SESSIONS))["total"]
    if path == "{session}":
        assert total == 0
        return
    info = await asked(client, "GET", session)
    history = await asked(client, "GET", f"{session}/messages")
    assert total == 1 + (path == SESSIONS)
    assert info["renewalCount"] == (path != SESSIONS)
    assert len(history["messages"]) == path.endswith("messages")


def parties() -> dict[str, str]:
    return session_body()


async def asked(client: ClientSession, method: str, url: str, body: Any = None) -> dict[str, Any]:
    async with client.request(method, url, json=body) as response:
        assert response.status in (200, 201), await response.text()
        content: dict[str, Any] = await response.json()
        return content


async def answer_body(reader: asyncio.StreamReader) -> bytes:
    """Return the part of a response's body that came before the node was killed."""
    try:
        _, _, body = (await reader.read()).partition(b"\r\n\r\n")
    except ConnectionError:
        return b""
    return body


async def test_a_bulk_end_that_died_is_taken_up(start: Start, store_url: str) -> None:
    """After a node died, its key is in conflict, and a call without key ends the rest."""
    settings = {"REDIS_URL": store_url, "SESSION_MAX_PER_USER": "0"}
    doomed, other = start(**settings), start(**settings)
    owner = parties()
    url = f"{SESSIONS}?userId={owner['userId']}"
    async with other.client() as client, doomed.client() as killed:
        for _ in range(10):
            await asyncio.gather(*(asked(client, "POST", SESSIONS, owner) for _ in range(200)))
        headers = {"Idempotency-Key": "k"}
        ending = asyncio.ensure_future(killed.delete(url, headers=headers))

        async def has_begun() -> bool:
            return bool((await asked(client, "GET", SESSIONS))["total"] < 2000)

        await wait_until(has_begun, every=0)
        doomed.kill()
        await asyncio.wait([ending])
        statuses = set()
        if ending.exception() is not None:
            async with client.delete(url, headers=headers) as response:
                statuses.add(response.status)
        assert statuses <= {200, 409}
        rest = await asked(client, "DELETE", url)
        assert rest["more"] is False
        assert (await asked(client, "GET", SESSIONS))["total"] == 0
