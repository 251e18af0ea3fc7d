"""Access control over many sessions: lists, health, bulk ends, creation (access.md, "Policy")."""

from collections.abc import Callable
from typing import Any

import pytest

from session_service.composition import Store, open_store
from session_service.domain.credentials import Permission
from session_service.domain.timeouts import TimeoutPolicy
from session_service.store.sessions.deadlines import Deadlines
from session_service.web.http.state import AppState
from tests.support.access import AGENT, ANN, BOB, OTHER_AGENT, KnownCredentials, key, page
from tests.support.api import SESSIONS, Client, assert_error
from tests.support.factories import new_uuid, store_settings
from tests.support.service import ServiceUnderTest, app_state
from tests.support.waiting import a_moment_later, wait_until

THIRD_AGENT = "e5555555-5555-4555-8555-555555555555"
HEALTH = f"{SESSIONS}/health"


@pytest.fixture
def access() -> KnownCredentials:
    access = KnownCredentials()
    access.known["pair"] = key("pair", frozenset((AGENT, OTHER_AGENT)))
    access.known["not-admin"] = key("not-admin", None, Permission.SESSIONS_ADMIN)
    access.known["bound-not-admin"] = key(
        "bound-not-admin", frozenset((AGENT,)), Permission.SESSIONS_ADMIN
    )
    return access


@pytest.fixture
def service(store: Store, access: KnownCredentials) -> AppState:
    return app_state(store, access=access)


def by(name: str) -> dict[str, str]:
    return {"X-API-KEY": name}


async def create(client: Client, user: str = ANN, agent: str = AGENT, **fields: Any) -> str:
    body = {"userId": user, "agentId": agent, **fields}
    async with client.post(SESSIONS, json=body, headers=by("all")) as response:
        assert response.status == 201
        session_id: str = (await response.json())["sessionId"]
    await a_moment_later()  # lists are ordered by the millisecond
    return session_id


async def listed(client: Client, name: str, **query: Any) -> dict[str, Any]:
    async with client.get(SESSIONS, params=query, headers=by(name)) as response:
        assert response.status == 200, await response.text()
        body: dict[str, Any] = await response.json()
        return body


async def paged(client: Client, name: str, **query: Any) -> list[str]:
    """Return the ids of all pages, one after the other."""
    body = await listed(client, name, **query)
    found = [session["sessionId"] for session in body["sessions"]]
    while body["nextCursor"]:
        body = await listed(client, name, cursor=body["nextCursor"], **query)
        found += [session["sessionId"] for session in body["sessions"]]
    return found


async def end_many(client: Client, name: str, **query: Any) -> int:
    async with client.delete(SESSIONS, params=query, headers=by(name)) as response:
        assert response.status == 200, await response.text()
        body = await response.json()
        assert body["more"] is False
        ended: int = body["ended"]
        return ended


async def test_a_user_lists_only_its_own_sessions(client: Client) -> None:
    """The list and its numbers are the user's, newest first, with and without a filter."""
    own = [await create(client, agent=agent) for agent in (AGENT, OTHER_AGENT, AGENT)]
    await create(client, BOB)
    for query in ({}, {"userId": ANN}, {"userId": ANN.upper()}):
        assert await paged(client, "ann", limit=2, **query) == own[::-1]
    body = await listed(client, "ann", limit=1)
    assert body["total"] == 3
    assert body["stats"] == {"totalSessions": 3, "activeSessions": 3, "expiredSessions": 0}
    body = await listed(client, "ann", agentId=OTHER_AGENT)
    assert [session["sessionId"] for session in body["sessions"]] == [own[1]]
    assert (body["total"], body["stats"]["activeSessions"]) == (1, 3)
    assert await paged(client, "ann", agentId=THIRD_AGENT) == []


async def test_a_user_lists_its_sessions_by_activity(client: Client) -> None:
    """``order=activity`` needs no userId from a user."""
    own = [await create(client) for _ in range(3)]
    await create(client, BOB)
    await client.post(f"{SESSIONS}/{own[0]}/heartbeat", headers=by("ann"))
    assert await paged(client, "ann", order="activity", limit=1) == [own[0], own[2], own[1]]
    response = await client.get(SESSIONS, params={"order": "activity"}, headers=by("all"))
    await assert_error(response, 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("ann", {"userId": BOB}),
        ("ann", {"userId": BOB, "order": "activity"}),
        ("bound", {"agentId": OTHER_AGENT}),
        ("bound", {"agentId": OTHER_AGENT, "userId": ANN}),
        ("pair", {"agentId": THIRD_AGENT}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_naming_another_is_forbidden(
    client: Client, method: str, name: str, query: dict[str, str]
) -> None:
    """Another user or agent in the query is a 403, whether or not it has sessions."""
    if method == "DELETE":
        query = {name: value for name, value in query.items() if name != "order"}
    for _ in range(2):
        response = await client.request(method, SESSIONS, params=query, headers=by(name))
        error = await assert_error(response, 403, "FORBIDDEN")
        assert ("userId" if name == "ann" else "agentId") in error["details"]
        await create(client, query.get("userId", ANN), query.get("agentId", AGENT))


async def test_a_bound_key_lists_only_its_agents(client: Client) -> None:
    """The list and its numbers are those of the key's agents."""
    own = [await create(client, user) for user in (ANN, BOB, ANN)]
    await create(client, agent=OTHER_AGENT)
    for query in ({}, {"agentId": AGENT}, {"agentId": AGENT.upper()}):
        assert sorted(await paged(client, "bound", limit=2, **query)) == sorted(own)
    assert await paged(client, "bound", userId=ANN, limit=1) == [own[2], own[0]]
    body = await listed(client, "bound", userId=ANN)
    assert (body["total"], body["stats"]["totalSessions"]) == (2, 3)


async def test_a_key_bound_to_several_agents_lists_all_of_them(client: Client) -> None:
    """All sessions of the agents come once, and those of a user newest first, in pages."""
    made = [
        await create(client, user, agent)
        for user in (ANN, BOB, ANN)
        for agent in (OTHER_AGENT, AGENT)
    ]
    await create(client, agent=THIRD_AGENT)
    of_ann = [made[n] for n in (5, 4, 1, 0)]
    for limit in (1, 2, 5, 100):
        assert sorted(await paged(client, "pair", limit=limit)) == sorted(made)
        assert await paged(client, "pair", limit=limit, userId=ANN) == of_ann
    await client.post(f"{SESSIONS}/{made[1]}/heartbeat", headers=by("all"))
    by_activity = [made[n] for n in (1, 5, 4, 0)]
    for limit in (1, 3, 100):
        found = await paged(client, "pair", limit=limit, userId=ANN, order="activity")
        assert found == by_activity
    body = await listed(client, "pair", limit=1, userId=ANN)
    assert (body["total"], body["stats"]["activeSessions"]) == (4, 6)
    assert await paged(client, "pair", agentId=AGENT, userId=BOB) == [made[3]]


async def test_a_cursor_of_another_caller_is_refused(client: Client) -> None:
    """A cursor of another listing is the same 400 as any other text."""
    for user in (ANN, BOB):
        for agent in (AGENT, OTHER_AGENT):
            for _ in range(2):
                await create(client, user, agent)
    listings: list[tuple[str, dict[str, str]]] = [
        ("ann", {}),
        ("bob", {}),
        ("ann", {"agentId": AGENT}),
        ("bob", {"agentId": AGENT}),
        ("bound", {}),
        ("other-bound", {}),
        ("pair", {}),
        ("pair", {"userId": ANN}),
        ("pair", {"userId": ANN, "order": "activity"}),
        ("all", {}),
    ]
    cursors = [
        (await listed(client, name, limit=1, **query))["nextCursor"] for name, query in listings
    ]
    refusals = set()
    for n, (name, query) in enumerate(listings):
        for m, cursor in enumerate((*cursors, "abc")):
            response = await client.get(
                SESSIONS, params={**query, "limit": "1", "cursor": cursor}, headers=by(name)
            )
            if n == m:
                assert response.status == 200
            else:
                await assert_error(response, 400, "VALIDATION_ERROR")
                refusals.add(await response.text())
    assert len(refusals) == 1


async def test_health_counts_what_the_caller_may_see(client: Client, service: AppState) -> None:
    """Limited callers get their own number and nothing about the system; others get all."""
    service.health_reasons.append(lambda: ["the disk of the store is full"])
    await create(client)
    await create(client, BOB)
    await create(client, BOB, OTHER_AGENT)
    for name, active in (("ann", 1), ("bob", 2), ("bound", 2), ("pair", 3)):
        async with client.get(HEALTH, headers=by(name)) as response:
            body = await response.json()
        assert (response.status, body.pop("timestamp"), body.pop("uptime")) != (200, "", 0)
        assert body == {"status": "healthy", "activeSessions": active, "expiringSoon": 0}
    async with client.get(HEALTH, headers=by("all")) as response:
        body = await response.json()
    assert (body["status"], body["activeSessions"]) == ("degraded", 3)
    assert body["reasons"] == ["the disk of the store is full"]


async def test_health_is_unhealthy_without_the_store(
    aiohttp_client: Callable[..., Any], access: KnownCredentials
) -> None:
    """A limited caller gets a 503 with the status and no counts."""
    async with open_store(store_settings("redis://127.0.0.1:1/0", store_timeout=1)) as store:
        lost = await aiohttp_client(ServiceUnderTest(app_state(store, access=access)))
        async with lost.get(HEALTH, headers=by("ann")) as response:
            body = await response.json()
    assert (response.status, body["status"]) == (503, "unhealthy")
    assert not {"activeSessions", "reasons"} & body.keys()


class TestExpired:
    """Sessions that have expired."""

    @pytest.fixture
    def policy(self) -> TimeoutPolicy:
        return TimeoutPolicy(min_timeout=0.0005)

    async def test_expired_sessions_are_counted_for_those_who_see_all(
        self, client: Client, deadlines: Deadlines
    ) -> None:
        """They are not in the numbers of limited callers, before and after the sweep."""
        await create(client)
        brief = {"timeoutMinutes": 0.0005}
        both = [await create(client, user, timeoutConfig=brief) for user in (ANN, BOB)]

        async def have_expired() -> bool:
            responses = [await client.get(f"{SESSIONS}/{each}", headers=by("all")) for each in both]
            return {response.status for response in responses} == {410}

        await wait_until(have_expired)
        for _ in range(2):
            for name in ("ann", "bound"):
                body = await listed(client, name)
                assert (body["total"], len(body["sessions"])) == (1, 1)
                assert body["stats"] == {
                    "totalSessions": 1,
                    "activeSessions": 1,
                    "expiredSessions": 0,
                }
            await deadlines.sweep()
        assert (await listed(client, "all"))["stats"]["expiredSessions"] == 2


async def test_a_user_ends_only_its_own_sessions(client: Client) -> None:
    """A filter by agent ends the user's sessions with it, and a filter by user all of them."""
    mine = [await create(client, agent=agent) for agent in (AGENT, AGENT, OTHER_AGENT)]
    others = [await create(client, BOB, agent) for agent in (AGENT, OTHER_AGENT)]
    assert await end_many(client, "ann", agentId=AGENT) == 2
    assert await paged(client, "all", userId=ANN) == [mine[2]]
    assert await end_many(client, "ann", userId=ANN) == 1
    assert sorted(await paged(client, "all")) == sorted(others)


async def test_a_bound_key_ends_only_the_sessions_of_its_agents(client: Client) -> None:
    """With a user, with several agents and with all, the sessions of other agents stay."""
    for agent in (AGENT, OTHER_AGENT, THIRD_AGENT):
        await create(client, ANN, agent)
        await create(client, BOB, agent)
    assert await end_many(client, "bound", userId=ANN) == 1
    assert await end_many(client, "pair", userId=ANN) == 1
    assert await end_many(client, "bound", all="true") == 1
    assert await end_many(client, "pair", all="true") == 1
    assert (await listed(client, "all"))["total"] == 2
    assert (await listed(client, "all", agentId=THIRD_AGENT))["total"] == 2


@pytest.mark.parametrize("name", ["ann", "not-admin", "bound-not-admin"])
async def test_ending_all_sessions_needs_a_scope(client: Client, name: str) -> None:
    """Without ``sessions:admin``, ``all=true`` is a 403 and ends nothing."""
    await create(client)
    response = await client.delete(SESSIONS, params={"all": "true"}, headers=by(name))
    error = await assert_error(response, 403, "FORBIDDEN")
    assert "sessions:admin" in error["details"]
    assert (await listed(client, "all"))["total"] == 1


async def test_a_filter_is_still_required(client: Client) -> None:
    """A bulk end without a filter is a 400, also from a user."""
    for name in ("ann", "bound", "all"):
        response = await client.delete(SESSIONS, headers=by(name))
        await assert_error(response, 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("get_or_create", [False, True])
@pytest.mark.parametrize(
    ("name", "user", "agent", "status"),
    [
        ("ann", ANN, AGENT, 201),
        ("ann", ANN.upper(), OTHER_AGENT, 201),
        ("ann", BOB, AGENT, 403),
        ("bound", BOB, AGENT.upper(), 201),
        ("bound", BOB, OTHER_AGENT, 403),
        ("pair", BOB, OTHER_AGENT, 201),
    ],
)
async def test_sessions_are_created_only_for_oneself(
    client: Client, *, name: str, user: str, agent: str, status: int, get_or_create: bool
) -> None:
    """Another user or agent in the body is a 403, and nothing is created."""
    body = {"userId": user, "agentId": agent, "getOrCreate": get_or_create}
    response = await client.post(SESSIONS, json=body, headers=by(name))
    if status == 403:
        await assert_error(response, 403, "FORBIDDEN")
    assert response.status == status
    assert (await listed(client, "all"))["total"] == (status == 201)


async def test_a_page_uses_nothing_but_its_session(
    client: Client, access: KnownCredentials
) -> None:
    """A session token may not create, find, list, count or end sessions, not even its own."""
    access.known["page"] = page(await create(client), ANN)
    own = {"userId": ANN, "agentId": AGENT}
    for method, path, body in (
        ("POST", SESSIONS, own),
        ("POST", SESSIONS, {**own, "getOrCreate": True}),
        ("GET", SESSIONS, None),
        ("GET", f"{SESSIONS}?userId={ANN}", None),
        ("DELETE", f"{SESSIONS}?userId={ANN}", None),
        ("GET", HEALTH, None),
        ("GET", "/api/messaging/events", None),
        ("GET", "/api/messaging/webhooks", None),
    ):
        response = await client.request(method, path, json=body, headers=by("page"))
        await assert_error(response, 403, "FORBIDDEN")
    assert (await listed(client, "all"))["total"] == 1


class TestKnownAgents:
    """``SESSION_AGENTS`` lists the agents that sessions may be created with."""

    @pytest.fixture(params=[True, False], ids=["with access control", "without"])
    def service(
        self, request: pytest.FixtureRequest, store: Store, access: KnownCredentials
    ) -> AppState:
        agents = frozenset((AGENT, THIRD_AGENT))
        return app_state(store, agents=agents, access=access if request.param else None)

    async def test_sessions_are_created_with_listed_agents_only(
        self, client: Client, service: AppState
    ) -> None:
        """Another agent is a 404, also to find a session, and lists simply have none of it."""
        assert await create(client, agent=AGENT.upper())
        unknown = new_uuid()
        for more in ({}, {"getOrCreate": True}):
            body = {"userId": ANN, "agentId": unknown, **more}
            response = await client.post(SESSIONS, json=body, headers=by("all"))
            await assert_error(response, 404, "AGENT_NOT_FOUND")
        assert await paged(client, "all", agentId=unknown) == []
        if service.access:  # a bound key learns nothing about the agents of others
            for agent in (THIRD_AGENT, unknown):
                body = {"userId": ANN, "agentId": agent}
                response = await client.post(SESSIONS, json=body, headers=by("bound"))
                await assert_error(response, 403, "FORBIDDEN")
