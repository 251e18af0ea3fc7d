"""``GET /api/messaging/sessions`` and the health check (contract, "List" and "Health")."""

from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import pytest

from session_service.domain.timeouts import TimeoutPolicy
from session_service.store.sessions.deadlines import Deadlines
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import KEYS, new_uuid
from tests.support.waiting import a_moment_later, wait_until


async def listed(client: Client, **query: Any) -> dict[str, Any]:
    response = await client.get(SESSIONS, params=query)
    assert response.status == 200, await response.text()
    body: dict[str, Any] = await response.json()
    return body


async def pages(client: Client, **query: Any) -> AsyncIterator[list[str]]:
    """Return the ids of each page."""
    body = await listed(client, **query)
    yield [session["sessionId"] for session in body["sessions"]]
    while body["nextCursor"]:
        body = await listed(client, cursor=body["nextCursor"], **query)
        yield [session["sessionId"] for session in body["sessions"]]


async def test_an_empty_service_lists_nothing(client: Client) -> None:
    """All members are present, and the page says that it is the last."""
    assert await listed(client) == {
        "sessions": [],
        "total": 0,
        "stats": {"totalSessions": 0, "activeSessions": 0, "expiredSessions": 0},
        "nextCursor": None,
    }


async def test_a_listed_session_is_the_info(client: Client) -> None:
    """Each listed session is what GET returns for it."""
    session = await create(client, metadata={"a": 1})
    info = await (await client.get(f"{SESSIONS}/{session['sessionId']}")).json()
    (found,) = (await listed(client))["sessions"]
    assert {**found, "timeRemaining": 0} == {**info, "timeRemaining": 0}


@pytest.mark.parametrize("limit", [1, 2, 5, 12, 13])
async def test_paging_meets_each_session_once(client: Client, limit: int) -> None:
    """Pages are full except the last, and contain every session once."""
    made = {(await create(client))["sessionId"] for _ in range(12)}
    found = [page async for page in pages(client, limit=limit)]
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
    assert len(found[-1]) in range(1, limit + 1)
    assert sorted(chain(*found)) == sorted(made)


@pytest.mark.parametrize("with_agent", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_a_user_s_sessions_come_newest_first(
    client: Client, limit: int, *, with_agent: bool
) -> None:
    """Pages of a user's sessions are in order of creation, also while others are created."""
    ids = {"userId": new_uuid()} | ({"agentId": new_uuid()} if with_agent else {})
    made = []
    for _ in range(7):
        made.append((await create(client, **ids))["sessionId"])
        await a_moment_later()  # they are ordered by the millisecond
    found = []
    async for page in pages(client, limit=limit, **ids):
        found += page
        await create(client, **ids)
    assert found[:7] == made[::-1]


async def test_filters_are_exact(client: Client) -> None:
    """Filters by user, agent and both are exact, in pages, with the total of the matches."""
    users, agents = [new_uuid() for _ in range(2)], [new_uuid() for _ in range(2)]
    made = [
        await create(client, userId=user, agentId=agent)
        for user in users
        for agent in agents
        for _ in range(3)
    ]
    for query in (
        {"userId": users[0]},
        {"userId": users[0].upper()},
        {"agentId": agents[1]},
        {"userId": users[1], "agentId": agents[0]},
        {"userId": new_uuid()},
        {"agentId": new_uuid()},
    ):
        expected = [
            s["sessionId"] for s in made if all(s[k] == v.lower() for k, v in query.items())
        ]
        found = [i async for page in pages(client, limit=2, **query) for i in page]
        assert sorted(found) == sorted(expected)
        for page in (await listed(client, **query), await listed(client, limit=1, **query)):
            assert (page["total"], page["stats"]["activeSessions"]) == (len(expected), 12)


async def test_paging_is_stable_while_others_come_and_go(client: Client) -> None:
    """A session that lives throughout is listed exactly once."""
    lasting = [(await create(client))["sessionId"] for _ in range(10)]
    going = [(await create(client))["sessionId"] for _ in range(10)]
    met = []
    async for page in pages(client, limit=3):
        met += page
        for session_id in lasting:
            await client.post(f"{SESSIONS}/{session_id}/heartbeat")
        await create(client)
        if going:
            await client.delete(f"{SESSIONS}/{going.pop()}")
    assert [met.count(session_id) for session_id in lasting] == [1] * 10


async def test_an_ended_session_is_not_listed(client: Client) -> None:
    """An ended session leaves the listing and the counts at once."""
    session = await create(client)
    await client.delete(f"{SESSIONS}/{session['sessionId']}")
    assert (await listed(client))["stats"]["totalSessions"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"userId": "x"}, "userId"),
        ({"agentId": ""}, "agentId"),
        ({"cursor": "abc"}, "cursor"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "ü"}, "cursor"),
        ({"cursor": "x" * 500}, "cursor"),
    ],
)
async def test_a_bad_query_is_refused(client: Client, query: dict[str, str], field: str) -> None:
    """A bad query is a 400 that names the parameter."""
    response = await client.get(SESSIONS, params=query)
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith(f"{field} must be ")


async def test_a_cursor_belongs_to_its_listing(client: Client) -> None:
    """A cursor of another user's listing is refused."""
    user = new_uuid()
    for _ in range(2):
        await create(client, userId=user)
    cursor = (await listed(client, userId=user, limit=1))["nextCursor"]
    response = await client.get(SESSIONS, params={"userId": new_uuid(), "cursor": cursor})
    await assert_error(response, 400, "VALIDATION_ERROR")


class TestHealth:
    """``GET /api/messaging/sessions/health``."""

    @pytest.fixture
    def policy(self) -> TimeoutPolicy:
        return TimeoutPolicy(min_timeout=0.0005, default_warning=1)

    async def test_it_counts(self, client: Client, deadlines: Deadlines) -> None:
        """Active sessions and those near expiration are counted, before and after a sweep."""
        for timeout in (30, 1, 0.0005):
            await create(client, timeoutConfig={"timeoutMinutes": timeout})

        async def health() -> dict[str, Any]:
            async with client.get(f"{SESSIONS}/health") as response:
                assert response.status == 200
                body: dict[str, Any] = await response.json()
                return body

        async def one_has_expired() -> bool:
            return bool((await health())["activeSessions"] == 2)

        await wait_until(one_has_expired)
        for _ in range(2):
            body = await health()
            assert set(body) == {
                "status", "activeSessions", "expiringSoon", "timestamp", "uptime",
            }  # fmt: skip
            assert (body["status"], body["activeSessions"], body["expiringSoon"]) == (
                "healthy",
                2,
                1,
            )
            await deadlines.sweep()


async def test_a_cursor_is_of_one_listing(client: Client) -> None:
    """A cursor of any other listing is a 400: of all, a user, an agent, or both."""
    user, agent = new_uuid(), new_uuid()
    for _ in range(2):
        await create(client, userId=user, agentId=agent)
    queries: tuple[dict[str, str], ...] = (
        {},
        {"userId": user},
        {"agentId": agent},
        {"userId": user, "agentId": agent},
    )
    cursors = [(await listed(client, limit=1, **query))["nextCursor"] for query in queries]
    for n, query in enumerate(queries):
        for m, cursor in enumerate(cursors):
            response = await client.get(SESSIONS, params={"cursor": cursor, **query})
            if n == m:
                assert len((await response.json())["sessions"]) == 1
            else:
                await assert_error(response, 400, "VALIDATION_ERROR")


async def test_health_counts_what_cannot_be_read(client: Client, redis: Any) -> None:
    """Unreadable sessions are counted once a node has met them; else the member is absent."""
    session = await create(client)
    assert "invalidSessions" not in await (await client.get(f"{SESSIONS}/health")).json()
    key = KEYS.one("session", session["sessionId"][:2], session["sessionId"]).names()[0]
    await redis.set(key, b"2 of a newer version", ex=60)
    url = f"{SESSIONS}/{session['sessionId']}"
    for method in ("GET", "DELETE"):
        response = await client.request(method, url)
        await assert_error(response, 503, "RECORD_UNREADABLE")
        assert "Retry-After" not in response.headers
    assert (await listed(client))["sessions"] == []

    async def invalid() -> Any:
        async with client.get(f"{SESSIONS}/health") as response:
            return (await response.json()).get("invalidSessions")

    assert await wait_until(invalid) == 1
