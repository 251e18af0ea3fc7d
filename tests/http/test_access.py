"""Access control: credentials in requests, scopes, and sessions that do not exist for a caller."""

from typing import Any

import pytest

from session_service.composition import Store
from session_service.domain.timeouts import TimeoutPolicy
from session_service.store.sessions.deadlines import Deadlines
from session_service.web.http.state import AppState
from session_service.web.rest.route import Public
from session_service.web.rest.table import PUBLIC_PATHS, ROUTES
from tests.support.access import AGENT, ANN, KnownCredentials, by, create, page
from tests.support.api import SESSIONS, Client, assert_error
from tests.support.service import app_state
from tests.support.waiting import wait_until

UNKNOWN = "3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"

Request = tuple[str, str, Any]  # method, path, JSON body

OF_ONE: tuple[Request, ...] = (
    ("GET", "", None),
    ("DELETE", "", None),
    ("POST", "/renew", None),
    ("POST", "/heartbeat", None),
    ("PATCH", "", {"metadata": {"a": 1}}),
    ("PATCH", "/timeout", {"timeoutMinutes": 10}),
    ("POST", "/messages", {"content": "Hello"}),
    ("GET", "/messages", None),
    ("GET", "/events", None),
)


@pytest.fixture
def access() -> KnownCredentials:
    return KnownCredentials()


@pytest.fixture
def service(store: Store, access: KnownCredentials) -> AppState:
    return app_state(store, access=access)


async def answer(client: Client, name: str, session_id: str, request: Request) -> tuple[Any, ...]:
    """Return the status, the fields and the body of a response, without what differs always."""
    method, path, body = request
    url = f"{SESSIONS}/{session_id}{path}"
    async with client.request(method, url, json=body, headers=by(name)) as response:
        fields = {n: v for n, v in response.headers.items() if n not in ("Date", "X-Request-ID")}
        return response.status, fields, await response.text()


async def test_public_paths_need_no_credential(client: Client) -> None:
    """Probes, pages and the API document are served to everyone."""
    found = {path: (await client.get(path)).status for path in PUBLIC_PATHS}
    assert found == dict.fromkeys(PUBLIC_PATHS, 200)


async def test_every_route_refuses_a_request_without_a_valid_credential(client: Client) -> None:
    """Nothing, and any text that is no credential, get one and the same 401, before the body."""
    bodies = set()
    for route in ROUTES:
        path = route.path.replace("{", "").replace("}", "")
        for headers in ({}, by("nobody"), {"Authorization": "Basic YWxs"}):
            response = await client.request(route.method, path, headers=headers)
            if isinstance(route.access, Public):
                assert response.status == 200
                continue
            await assert_error(response, 401, "UNAUTHORIZED")
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="session-service"'
            bodies.add(await response.text())
    assert len(bodies) == 1


@pytest.mark.parametrize("headers", [by("all"), {"Authorization": "Bearer all"}])
async def test_a_key_may_be_in_either_header(client: Client, headers: dict[str, str]) -> None:
    """A credential is taken from X-API-KEY and from Authorization."""
    assert (await client.get(SESSIONS, headers=headers)).status == 200


async def test_two_credentials_are_a_bad_request(client: Client) -> None:
    """A request with two credentials is a 400, whatever they are."""
    for second in ("all", "nobody"):
        headers = {**by("all"), "Authorization": f"Bearer {second}"}
        error = await assert_error(
            await client.get(SESSIONS, headers=headers), 400, "VALIDATION_ERROR"
        )
        assert "another credential" in error["message"]
    url = f"/api/messaging/events?token={'all'}"
    await assert_error(await client.get(url, headers=by("all")), 400, "VALIDATION_ERROR")


async def test_a_missing_scope_is_a_403_that_names_it(client: Client) -> None:
    """A credential without the route's scope gets a 403, before its body is read."""
    for path in (SESSIONS, f"{SESSIONS}/{UNKNOWN}/renew"):
        response = await client.post(path, data=b"not JSON", headers=by("reader"))
        error = await assert_error(response, 403, "FORBIDDEN")
        assert "sessions:write" in error["details"]


@pytest.mark.parametrize("request_", OF_ONE, ids=lambda each: f"{each[0]} {each[1]}")
@pytest.mark.parametrize("name", ["bob", "other-bound", "other-page"])
async def test_a_session_of_another_does_not_exist(
    client: Client, access: KnownCredentials, name: str, request_: Request
) -> None:
    """For another user, agent or page, a session is the same as one that never was, and stays."""
    session_id = await create(client)
    access.known["other-page"] = page(await create(client), ANN)
    never = await answer(client, name, UNKNOWN, request_)
    assert never[0] == 404
    assert await answer(client, name, session_id, request_) == never
    assert (await client.get(f"{SESSIONS}/{session_id}", headers=by("ann"))).status == 200


@pytest.mark.parametrize("request_", OF_ONE, ids=lambda each: f"{each[0]} {each[1]}")
async def test_its_owners_may_use_a_session(
    client: Client, access: KnownCredentials, request_: Request
) -> None:
    """The session's user, a key bound to its agent, and its page succeed."""
    for name in ("ann", "bound", "page"):
        session_id = await create(client)
        access.known["page"] = page(session_id, ANN)
        method, path, body = request_
        url = f"{SESSIONS}/{session_id}{path}"
        async with client.request(method, url, json=body, headers=by(name)) as response:
            assert response.status in (200, 201)


class TestExpired:
    """Sessions that have expired."""

    @pytest.fixture
    def policy(self) -> TimeoutPolicy:
        return TimeoutPolicy(min_timeout=0.0001, default_timeout=0.0001)

    @pytest.mark.parametrize("swept", [False, True])
    async def test_an_expired_session_of_another_does_not_exist(
        self, client: Client, deadlines: Deadlines, *, swept: bool
    ) -> None:
        """Before and after the sweep, its user gets a 410, and others a 404."""
        session_id = await create(client)

        async def is_expired() -> bool:
            url = f"{SESSIONS}/{session_id}"
            return (await client.get(url, headers=by("ann"))).status == 410

        await wait_until(is_expired)
        if swept:
            await deadlines.sweep()
        for request in OF_ONE:
            never = await answer(client, "bob", UNKNOWN, request)
            assert await answer(client, "bob", session_id, request) == never
            if request[:2] not in (("DELETE", ""), ("GET", "/events")):
                assert (await answer(client, "ann", session_id, request))[0] == 410


async def test_a_user_speaks_only_for_itself(client: Client) -> None:
    """Another authorId is a 403 at once for users; a key needs messages:agent for the agent's."""
    session_id = await create(client)
    for path in (session_id, UNKNOWN):
        url = f"{SESSIONS}/{path}/messages"
        body = {"content": "Hello", "authorId": AGENT}
        await assert_error(await client.post(url, json=body, headers=by("ann")), 403, "FORBIDDEN")
    url = f"{SESSIONS}/{session_id}/messages"
    body = {"content": "Hello", "authorId": ANN}
    assert (await client.post(url, json=body, headers=by("ann"))).status == 201


async def test_a_key_speaks_as_the_agent_only_with_the_scope(client: Client) -> None:
    """Without messages:agent a key's message as the agent is a 403, and is not stored."""
    session_id = await create(client)
    url = f"{SESSIONS}/{session_id}/messages"
    body = {"content": "Hello", "authorId": AGENT}
    response = await client.post(url, json=body, headers=by("mute"))
    error = await assert_error(response, 403, "FORBIDDEN")
    assert "messages:agent" in error["details"]
    stored = await client.get(url, headers=by("mute"))
    assert (await stored.json())["messages"] == []
    assert (await client.post(url, json=body, headers=by("all"))).status == 201


async def test_an_idempotency_key_belongs_to_its_credential(client: Client) -> None:
    """Two credentials may use the same Idempotency-Key, and learn nothing of each other."""
    session_id = await create(client)
    headers = {"Idempotency-Key": "the same"}
    url = f"{SESSIONS}/{session_id}"
    first = await client.post(f"{url}/renew", headers=headers | by("ann"))
    assert first.status == 200
    other = await client.delete(f"{SESSIONS}/{UNKNOWN}", headers=headers | by("bob"))
    await assert_error(other, 404, "SESSION_NOT_FOUND")
    again = await client.post(f"{url}/renew", headers=headers | by("ann"))
    assert await again.json() == await first.json()


async def test_a_replayed_reply_is_not_for_others(client: Client) -> None:
    """The same request with the same Idempotency-Key by another user is a 404."""
    session_id = await create(client)
    headers = {"Idempotency-Key": "the same"}
    url = f"{SESSIONS}/{session_id}/messages"
    body = {"content": "Hello"}
    assert (await client.post(url, json=body, headers=headers | by("ann"))).status == 201
    other = await client.post(url, json=body, headers=headers | by("bob"))
    await assert_error(other, 404, "SESSION_NOT_FOUND")


async def test_a_session_token_is_for_its_session_only(
    client: Client, access: KnownCredentials
) -> None:
    """It cannot create, list, count or end sessions by a filter."""
    access.known["page"] = page(await create(client), ANN)
    for method, path in (
        ("POST", ""),
        ("GET", ""),
        ("DELETE", f"?userId={ANN}"),
        ("GET", "/health"),
    ):
        response = await client.request(method, f"{SESSIONS}{path}", headers=by("page"))
        await assert_error(response, 403, "FORBIDDEN")
