"""``DELETE /api/messaging/sessions/{sessionId}`` (contract, "End")."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import new_uuid, session_body

EVERY_OTHER_OPERATION: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("POST", "/renew", None),
    ("POST", "/heartbeat", None),
    ("PATCH", "/timeout", {"timeoutMinutes": 60}),
    ("PATCH", "", {"metadata": {"a": 1}}),
    ("POST", "/messages", {"content": "Hello"}),
    ("GET", "/messages", None),
]


async def test_ending_answers_with_the_published_body(client: Client) -> None:
    """The body is exactly that of the published document, without a success key."""
    response = await client.delete(f"{SESSIONS}/{(await create(client))['sessionId']}")
    assert (response.status, await response.text()) == (
        200,
        '{"message":"Session ended successfully"}',
    )
    assert response.content_type == "application/json"


async def test_one_of_many_callers_ends_a_session(client: Client) -> None:
    """Of any number of concurrent callers exactly one gets 200, the others 404."""
    session_id = (await create(client))["sessionId"]
    responses = await asyncio.gather(
        *(client.delete(f"{SESSIONS}/{session_id}") for _ in range(50))
    )
    assert sorted(a.status for a in responses) == [200] + [404] * 49


async def test_what_never_was_and_what_was_ended_are_told_alike(client: Client) -> None:
    """An ended session and one that never existed have the same response: no oracle."""
    url = f"{SESSIONS}/{(await create(client))['sessionId']}"
    await client.delete(url)
    ended = await assert_error(await client.delete(url), 404, "SESSION_NOT_FOUND")
    unknown = await assert_error(
        await client.delete(f"{SESSIONS}/{uuid4()}"), 404, "SESSION_NOT_FOUND"
    )
    assert ended == unknown


@pytest.mark.parametrize(("method", "path", "body"), EVERY_OTHER_OPERATION)
async def test_nothing_revives_an_ended_session(
    client: Client, method: str, path: str, body: Any
) -> None:
    """After the 200 every operation on the session is a 404, and it stays ended."""
    url = f"{SESSIONS}/{(await create(client))['sessionId']}"
    await client.delete(url)
    response = await client.request(method, url + path, json=body)
    await assert_error(response, 404, "SESSION_NOT_FOUND")
    await assert_error(await client.get(url), 404, "SESSION_NOT_FOUND")


async def test_what_is_in_flight_does_not_revive_it_either(client: Client, redis: Redis) -> None:
    """A concurrent operation happens before the end or is a 404, and leaves nothing behind."""
    session_id = (await create(client))["sessionId"]
    url = f"{SESSIONS}/{session_id}"
    calls = [client.request(m, url + p, json=b) for m, p, b in EVERY_OTHER_OPERATION * 3]
    calls.insert(len(calls) // 2, client.delete(url))
    statuses = [response.status for response in await asyncio.gather(*calls)]
    assert set(statuses) <= {200, 201, 404}
    await assert_error(await client.get(url), 404, "SESSION_NOT_FOUND")
    assert [key async for key in redis.scan_iter(f"*{session_id}*")] == []


async def test_the_conversation_is_deleted_with_it(client: Client, redis: Redis) -> None:
    """No key and no listing contains an ended session."""
    user = new_uuid()
    session_id = (await create(client, userId=user))["sessionId"]
    url = f"{SESSIONS}/{session_id}"
    await client.post(f"{url}/messages", json={"content": "Hello"})
    assert [key async for key in redis.scan_iter(f"*{session_id}*")] != []
    await client.delete(url)
    assert [key async for key in redis.scan_iter(f"*{session_id}*")] == []
    for query in ({}, {"userId": user}):
        listed = await (await client.get(SESSIONS, params=query)).json()
        assert (listed["sessions"], listed["total"]) == ([], 0)


async def test_other_sessions_of_the_same_user_go_on(client: Client) -> None:
    """Another session of the same user and agent is not ended."""
    owner = session_body()
    ended, lasting = [(await create(client, **owner))["sessionId"] for _ in range(2)]
    await client.post(f"{SESSIONS}/{lasting}/messages", json={"content": "Hello"})
    await client.delete(f"{SESSIONS}/{ended}")
    assert (await client.get(f"{SESSIONS}/{lasting}")).status == 200
    history = await (await client.get(f"{SESSIONS}/{lasting}/messages")).json()
    assert [message["content"] for message in history["messages"]] == ["Hello"]


@pytest.mark.parametrize("body", [b"", b"{}", b"not json", b'{"success": false}'])
async def test_a_body_means_nothing_to_it(client: Client, body: bytes) -> None:
    """A body is ignored."""
    url = f"{SESSIONS}/{(await create(client))['sessionId']}"
    assert (await client.delete(url, data=body)).status == 200
