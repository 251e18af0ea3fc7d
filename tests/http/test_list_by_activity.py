"""``GET /sessions?userId=…&order=activity`` (contract, "List")."""

import asyncio
from typing import Any

import pytest

from session_service.domain.sessions import NewSession
from session_service.store.sessions.repository import SessionRepository
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import LASTING, new_uuid


async def listed(client: Client, **query: Any) -> dict[str, Any]:
    response = await client.get(SESSIONS, params={"order": "activity", **query})
    assert response.status == 200, await response.text()
    body: dict[str, Any] = await response.json()
    return body


async def paged(client: Client, **query: Any) -> list[str]:
    """Return the ids of all pages."""
    body = await listed(client, **query)
    found = [session["sessionId"] for session in body["sessions"]]
    while body["nextCursor"]:
        body = await listed(client, cursor=body["nextCursor"], **query)
        found += [session["sessionId"] for session in body["sessions"]]
    return found


async def touch(client: Client, session_id: str) -> None:
    """Have a heartbeat, in a millisecond of its own."""
    await client.post(f"{SESSIONS}/{session_id}/heartbeat")
    await asyncio.sleep(0.002)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_the_latest_activity_comes_first(client: Client, limit: int) -> None:
    """A user's sessions come by last activity, on pages of any size, each once."""
    user = new_uuid()
    made = [(await create(client, userId=user))["sessionId"] for _ in range(7)]
    await create(client)
    order = [made[n] for n in (3, 0, 6, 5, 1, 4, 2)]
    for session_id in order:
        await touch(client, session_id)
    assert await paged(client, userId=user, limit=limit) == order[::-1]
    body = await listed(client, userId=user, limit=limit)
    assert body["total"] == 7
    assert "truncated" not in body


async def test_sessions_of_one_moment_are_on_one_page_each(
    client: Client, repository: SessionRepository
) -> None:
    """Sessions that were active in the same millisecond are listed once each, too."""
    new = NewSession(new_uuid(), new_uuid(), LASTING, b"{}")
    made = {each.id for each in await asyncio.gather(*(repository.create(new) for _ in range(60)))}
    found = await paged(client, userId=new.user_id, limit=7)
    assert len(found) == 60
    assert set(found) == made


async def test_an_agent_can_be_selected_as_well(client: Client) -> None:
    """With agentId only the sessions with that agent are listed."""
    ids = {"userId": new_uuid(), "agentId": new_uuid()}
    chosen = [(await create(client, **ids))["sessionId"] for _ in range(3)]
    await create(client, userId=ids["userId"])
    await asyncio.sleep(0.002)
    await touch(client, chosen[0])
    body = await listed(client, **ids, limit=2)
    assert body["total"] == 3
    assert body["sessions"][0]["sessionId"] == chosen[0]
    assert set(await paged(client, **ids, limit=2)) == set(chosen)


async def test_only_the_newest_thousand_are_sorted(
    client: Client, repository: SessionRepository
) -> None:
    """Of a user with more, the oldest are left out, and ``truncated`` says so."""
    new = NewSession(new_uuid(), new_uuid(), LASTING, b"{}")
    oldest = await repository.create(new)
    await asyncio.sleep(0.002)
    made = await asyncio.gather(*(repository.create(new) for _ in range(1000)))
    await repository.heartbeat(oldest.id)
    body = await listed(client, userId=new.user_id, limit=10)
    assert (body["truncated"], body["total"]) == (True, 1001)
    found = await paged(client, userId=new.user_id, limit=400)
    assert sorted(found) == sorted(each.id for each in made)
    await repository.end(made[0].id)
    assert "truncated" not in await listed(client, userId=new.user_id)
    assert oldest.id in await paged(client, userId=new.user_id, limit=1000)


async def test_what_does_not_fit_is_refused(client: Client) -> None:
    """The order needs a user and a known name, and a cursor belongs to its own listing."""
    user = new_uuid()
    for _ in range(2):
        await create(client, userId=user)
    for query in ({"order": "activity"}, {"order": "activity", "agentId": user}):
        error = await assert_error(
            await client.get(SESSIONS, params=query), 400, "VALIDATION_ERROR"
        )
        assert "order" in error["message"]
    for order in ("created", "ACTIVITY", ""):
        response = await client.get(SESSIONS, params={"order": order, "userId": user})
        await assert_error(response, 400, "VALIDATION_ERROR")
    by_activity = (await listed(client, userId=user, limit=1))["nextCursor"]
    response = await client.get(SESSIONS, params={"userId": user, "limit": "1"})
    by_creation = (await response.json())["nextCursor"]
    for cursor, query in (
        (by_activity, {"userId": user}),
        (by_activity, {"userId": new_uuid(), "order": "activity"}),
        (by_creation, {"userId": user, "order": "activity"}),
        ("bzE", {"userId": user, "order": "activity"}),
    ):
        response = await client.get(SESSIONS, params={"cursor": cursor, **query})
        await assert_error(response, 400, "VALIDATION_ERROR")
