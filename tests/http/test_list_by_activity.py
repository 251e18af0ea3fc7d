"""``GET /sessions?userId=…&order=activity`` (contract, "List")."""

import asyncio
from itertools import chain
from typing import Any

import pytest

from session_service.domain.sessions import NewSession
from session_service.store.sessions.repository import SessionRepository
from tests.support.api import SESSIONS, Client, assert_error, create, post
from tests.support.factories import LASTING, new_uuid
from tests.support.waiting import a_moment_later


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


def ids_of(page: dict[str, Any]) -> list[str]:
    return [session["sessionId"] for session in page["sessions"]]


async def touch(client: Client, session_id: str) -> None:
    """Have a heartbeat, in a millisecond of its own."""
    await client.post(f"{SESSIONS}/{session_id}/heartbeat")
    await a_moment_later()


async def create_one_by_one(client: Client, count: int, user: str, **fields: Any) -> list[str]:
    """Create sessions of a user, each in a millisecond of its own; return their ids."""
    made = []
    for _ in range(count):
        made.append((await create(client, userId=user, **fields))["sessionId"])
        await a_moment_later()
    return made


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


async def test_all_that_is_activity_counts(client: Client) -> None:
    """Heartbeats, messages and renewals move a session to the front; a change does not."""
    user = new_uuid()
    made = await create_one_by_one(client, 5, user)
    await touch(client, made[1])
    await post(client, f"{SESSIONS}/{made[3]}/messages", {"content": "Hello"})
    await a_moment_later()
    await post(client, f"{SESSIONS}/{made[0]}/renew")
    await a_moment_later()
    await client.patch(f"{SESSIONS}/{made[2]}", json={"metadata": {"a": 1}})
    await client.patch(f"{SESSIONS}/{made[2]}/timeout", json={"timeoutMinutes": 60})
    body = await listed(client, userId=user)
    assert ids_of(body) == [made[n] for n in (0, 3, 1, 4, 2)]
    for session in body["sessions"]:  # each is what GET returns
        info = await (await client.get(f"{SESSIONS}/{session['sessionId']}")).json()
        assert {**session, "timeRemaining": 0} == {**info, "timeRemaining": 0}


async def test_changes_between_pages_repeat_nothing(client: Client) -> None:
    """If sessions end or become active between pages, none comes twice, and no other is missed."""
    user = new_uuid()
    made = await create_one_by_one(client, 7, user)
    first = await listed(client, userId=user, limit=2)
    assert ids_of(first) == [made[6], made[5]]
    await touch(client, made[6])  # it was on the page
    await touch(client, made[0])  # it was not
    await client.delete(f"{SESSIONS}/{made[5]}")  # the cursor names its position
    await client.delete(f"{SESSIONS}/{made[4]}")
    second = await listed(client, userId=user, limit=2, cursor=first["nextCursor"])
    assert ids_of(second) == [made[3], made[2]]
    third = await listed(client, userId=user, limit=2, cursor=second["nextCursor"])
    assert (ids_of(third), third["nextCursor"], third["total"]) == ([made[1]], None, 5)
    assert ids_of(await listed(client, userId=user, limit=2)) == [made[0], made[6]]


async def test_a_page_of_large_sessions_ends_at_a_mebibyte(client: Client) -> None:
    """Pages end at 1 MiB, and have each session once, in order."""
    user = new_uuid()
    made = await create_one_by_one(client, 120, user, metadata={"a": "x" * 10_000})
    await touch(client, made[0])
    first = await listed(client, userId=user, limit=1000)
    second = await listed(client, userId=user, limit=1000, cursor=first["nextCursor"])
    pages = [ids_of(first), ids_of(second)]
    assert [len(page) for page in pages] == [103, 17]  # a record has about 10,100 bytes
    assert list(chain(*pages)) == [made[0], *made[:0:-1]]
    assert second["nextCursor"] is None


async def test_a_user_without_sessions_has_an_empty_page(client: Client) -> None:
    """The page is empty, and the last."""
    page = await listed(client, userId=new_uuid())
    assert (page["sessions"], page["total"], page["nextCursor"]) == ([], 0, None)


async def test_sessions_of_one_moment_are_on_one_page_each(
    client: Client, repository: SessionRepository
) -> None:
    """Sessions that were active in the same millisecond are listed once, as by creation."""
    new = NewSession(new_uuid(), new_uuid(), LASTING, b"{}")
    made = {each.id for each in await asyncio.gather(*(repository.create(new) for _ in range(60)))}
    found = await paged(client, userId=new.user_id, limit=7)
    assert len(found) == 60
    assert set(found) == made
    by_creation = await (await client.get(SESSIONS, params={"userId": new.user_id})).json()
    assert found == ids_of(by_creation)


async def test_an_agent_can_be_selected_as_well(client: Client) -> None:
    """With agentId only the sessions with that agent are listed."""
    ids = {"userId": new_uuid(), "agentId": new_uuid()}
    chosen = [(await create(client, **ids))["sessionId"] for _ in range(3)]
    await create(client, userId=ids["userId"])
    await a_moment_later()
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
    await a_moment_later()
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
