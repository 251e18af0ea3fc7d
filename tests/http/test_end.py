"""``DELETE /api/messaging/sessions/{sessionId}``: the heart of it (contract, "End")."""

import asyncio

import pytest

from tests.api import SESSIONS, Client, assert_error, create


async def test_ending_answers_with_the_published_body(client: Client) -> None:
    """The body is exactly the published one, without a success key."""
    answer = await client.delete(f"{SESSIONS}/{(await create(client))['sessionId']}")
    assert (answer.status, await answer.json()) == (200, {"message": "Session ended successfully"})


async def test_one_of_many_callers_ends_a_session(client: Client) -> None:
    """Of any number of concurrent callers exactly one gets 200, the others 404."""
    session_id = (await create(client))["sessionId"]
    answers = await asyncio.gather(*(client.delete(f"{SESSIONS}/{session_id}") for _ in range(50)))
    assert sorted(a.status for a in answers) == [200] + [404] * 49


@pytest.mark.parametrize("action", ["get", "renew", "heartbeat", "messages"])
async def test_nothing_revives_an_ended_session(client: Client, action: str) -> None:
    """After the 200 every operation on the session is a 404."""
    session_id = (await create(client))["sessionId"]
    await client.delete(f"{SESSIONS}/{session_id}")
    url = f"{SESSIONS}/{session_id}"
    if action == "get":
        answer = await client.get(url)
    elif action == "messages":
        answer = await client.post(f"{url}/messages", json={"content": "Hello"})
    else:
        answer = await client.post(f"{url}/{action}")
    await assert_error(answer, 404, "SESSION_NOT_FOUND")
