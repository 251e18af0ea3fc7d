"""Limits on requests: 429, its fields, and what counts."""

import re
from typing import Any

import pytest
from aiohttp import ClientResponse
from msgspec.structs import replace

from session_service.composition import Store
from session_service.domain.addresses import read_networks
from session_service.domain.rates import RateLimit
from session_service.rate_settings import RateSettings
from session_service.settings import Settings
from session_service.web.http.address_limit import AddressLimit
from session_service.web.http.browsers import BrowserPolicy
from session_service.web.http.client_addresses import TrustedProxies
from session_service.web.http.limits import LIMIT_FIELDS, RequestLimits
from session_service.web.http.state import AppState
from tests.support.access import ANN, BOB, KnownCredentials, page, user
from tests.support.api import SESSIONS, Client, assert_error
from tests.support.factories import new_uuid, session_body
from tests.support.service import app_state
from tests.support.sockets import Connect, Socket

USER, KEY, ADDRESS = RateLimit(5, 600), RateLimit(7, 600), RateLimit(4, 600)
ORIGIN = "https://app.example.org"
POLL = "/socket.io/?EIO=4&transport=polling"
UNKNOWN = "3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    rates = RateSettings(user=USER, key=KEY, address=ADDRESS)
    return replace(settings, rates=rates)


@pytest.fixture
def access() -> KnownCredentials:
    access = KnownCredentials()
    access.known["maker"] = replace(access.known["all"], id="maker")
    return access


@pytest.fixture
def has_access() -> bool:
    """Whether access control is on; a test may override it."""
    return True


@pytest.fixture
def service(store: Store, access: KnownCredentials, *, has_access: bool) -> AppState:
    limits = RequestLimits(
        users=store.user_limit, keys=store.key_limit, addresses=AddressLimit(ADDRESS)
    )
    return app_state(
        store,
        access=access if has_access else None,
        limits=limits,
        proxies=TrustedProxies(read_networks("127.0.0.0/8")),
        browsers=BrowserPolicy((ORIGIN,), exposed=LIMIT_FIELDS),
    )


def key(name: str) -> dict[str, str]:
    return {"X-API-KEY": name}


def left_of(response: ClientResponse, name: str) -> int:
    """Return what is left by the field RateLimit, whose policy has a name."""
    found = re.fullmatch(rf'"{name}";r=(\d+);t=(\d+)', response.headers["RateLimit"])
    assert found, response.headers["RateLimit"]
    assert int(found[2]) >= 1
    return int(found[1])


async def create(client: Client, user_id: str = ANN) -> str:
    body = session_body(userId=user_id)
    async with client.post(SESSIONS, json=body, headers=key("maker")) as response:
        assert response.status == 201, await response.text()
        session_id: str = (await response.json())["sessionId"]
        return session_id


async def test_a_user_is_limited(client: Client, access: KnownCredentials) -> None:
    """All credentials of a user share the limit; beyond it comes a 429 with when to come back."""
    session_id = await create(client)
    access.known["page"] = page(session_id, ANN)
    url = f"{SESSIONS}/{session_id}"
    for n, name in enumerate(("ann", "page", "ann", "page", "ann"), 1):
        response = await client.get(url, headers=key(name))
        assert response.status == 200
        assert response.headers["RateLimit-Policy"] == '"user";q=5;w=600'
        assert left_of(response, "user") == USER.requests - n
    for name in ("page", "ann"):
        response = await client.delete(url, headers=key(name))
        error = await assert_error(response, 429, "RATE_LIMITED")
        assert "RATE_LIMIT_USER" in error["details"]
        assert 115 <= int(response.headers["Retry-After"]) <= 120
        assert response.headers["RateLimit"] == f'"user";r=0;t={response.headers["Retry-After"]}'
    assert (await client.get(url, headers=key("all"))).status == 200


async def test_every_request_costs_one(client: Client) -> None:
    """One that is not valid, finds nothing or is not permitted costs as much as any other."""
    costly: list[tuple[str, str, Any, int]] = [
        ("GET", f"/{UNKNOWN}", None, 404),
        ("GET", "/no-id", None, 404),
        ("POST", f"/{UNKNOWN}/messages", {"content": 1}, 400),
        ("DELETE", "", None, 400),
        ("GET", "?limit=x", None, 400),
    ]
    for n, (method, path, body, status) in enumerate(costly, 1):
        response = await client.request(method, SESSIONS + path, json=body, headers=key("bob"))
        assert response.status == status
        assert left_of(response, "user") == USER.requests - n
    response = await client.post(SESSIONS, json=session_body(), headers=key("bob"))
    await assert_error(response, 429, "RATE_LIMITED")


async def test_a_route_without_an_own_script_costs_one(client: Client) -> None:
    """Listings, health and streams are charged before anything is done for them."""
    for n, path in enumerate((f"?userId={BOB}", "/health"), 1):
        response = await client.get(SESSIONS + path, headers=key("bob"))
        assert response.status == 200
        assert left_of(response, "user") == USER.requests - n
    async with client.get(f"{SESSIONS}/{UNKNOWN}/events", headers=key("bob")) as response:
        assert response.status == 404
        assert left_of(response, "user") == 2


async def test_a_replay_costs_one_and_is_not_refused_later(client: Client) -> None:
    """A request that is sent again with its key costs one; a 429 is not what it replays."""
    session_id = await create(client, BOB)
    headers = {**key("bob"), "Idempotency-Key": "once"}
    url = f"{SESSIONS}/{session_id}/messages"
    ids = set()
    for _ in range(USER.requests):
        response = await client.post(url, json={"content": "Hello"}, headers=headers)
        assert response.status == 201
        ids.add((await response.json())["id"])
    assert len(ids) == 1
    response = await client.post(url, json={"content": "Hello"}, headers=headers)
    await assert_error(response, 429, "RATE_LIMITED")


async def test_a_refused_request_with_a_recorded_response_can_be_made_later(
    client: Client, store: Store
) -> None:
    """The refusal of a bulk end is not recorded under its key."""
    for _ in range(USER.requests):
        await client.get(f"{SESSIONS}/{UNKNOWN}", headers=key("bob"))
    headers = {**key("bob"), "Idempotency-Key": "bulk"}
    url = f"{SESSIONS}?userId={BOB}"
    await assert_error(await client.delete(url, headers=headers), 429, "RATE_LIMITED")
    names = store.keys.bucket("user_bucket", BOB).names()
    await store.executor.run_on_masters(("DEL", names[0]))
    assert (await client.delete(url, headers=headers)).status == 200


async def test_a_key_is_limited_also_for_users(client: Client) -> None:
    """A key that acts for users uses up its own limit, and no user's."""
    for n in range(1, KEY.requests + 1):
        body = session_body(userId=ANN)
        response = await client.post(SESSIONS, json=body, headers=key("all"))
        assert response.status == 201
        assert response.headers["RateLimit-Policy"] == '"key";q=7;w=600'
        assert left_of(response, "key") == KEY.requests - n
    response = await client.get(f"{SESSIONS}/{UNKNOWN}", headers=key("all"))
    error = await assert_error(response, 429, "RATE_LIMITED")
    assert "RATE_LIMIT_KEY" in error["details"]
    response = await client.get(f"{SESSIONS}/{UNKNOWN}", headers=key("mute"))
    assert left_of(response, "key") == KEY.requests - 1
    response = await client.get(f"{SESSIONS}/{UNKNOWN}", headers=key("ann"))
    assert left_of(response, "user") == USER.requests - 1


async def test_an_address_without_a_valid_credential_is_limited(client: Client) -> None:
    """Guesses are stopped, before their body is read; credentials that are valid still serve."""
    for n, headers in enumerate(({}, key("nobody"), {"Authorization": "Basic YWxs"}, {}), 1):
        response = await client.post(SESSIONS, data=b"x" * 300_000, headers=headers)
        await assert_error(response, 401, "UNAUTHORIZED")
        assert left_of(response, "address") == ADDRESS.requests - n
    two = {**key("all"), "Authorization": "Bearer all"}
    for headers in ({}, key("nobody"), two):
        response = await client.get(SESSIONS, headers=headers)
        error = await assert_error(response, 429, "RATE_LIMITED")
        assert "RATE_LIMIT_ADDRESS" in error["details"]
    assert (await client.get(SESSIONS, headers=key("all"))).status == 200
    assert (await client.get("/healthz")).status == 200


async def test_the_address_is_the_clients(client: Client) -> None:
    """Behind a trusted proxy, each client has its own limit."""
    for address in ("203.0.113.1", "203.0.113.2"):
        headers = {"X-Forwarded-For": f"198.51.100.{new_uuid()[0]}, {address}"}
        for _ in range(ADDRESS.requests):
            assert (await client.get(SESSIONS, headers=headers)).status == 401
        assert (await client.get(SESSIONS, headers=headers)).status == 429


async def test_a_stream_beyond_the_limit_ends_with_the_time(client: Client) -> None:
    """An EventSource gets a stream that ends at once, and comes back when it may."""
    session_id = await create(client, BOB)
    for _ in range(USER.requests):
        await client.get(f"{SESSIONS}/{UNKNOWN}", headers=key("bob"))
    async with client.get(f"{SESSIONS}/{session_id}/events", headers=key("bob")) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert left_of(response, "user") == 0
        retry = re.match(rb"retry: (\d+)\n", await response.read())
        assert retry
        assert 115_000 <= int(retry[1]) <= 123_000


async def test_a_stream_costs_one(client: Client) -> None:
    """The head of a stream has the fields, too."""
    session_id = await create(client, BOB)
    async with client.get(f"{SESSIONS}/{session_id}/events", headers=key("bob")) as response:
        assert response.status == 200
        assert left_of(response, "user") == USER.requests - 1


async def test_pages_may_read_the_fields(client: Client) -> None:
    """The fields are exposed to pages of listed origins."""
    headers = {**key("bob"), "Origin": ORIGIN}
    response = await client.get(f"{SESSIONS}/{UNKNOWN}", headers=headers)
    exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(exposed)


async def test_users_with_all_scopes_have_no_limit(
    client: Client, access: KnownCredentials
) -> None:
    """A credential to which no limit applies gets no fields."""
    access.known["admin"] = replace(user(ANN), user=None)
    for _ in range(USER.requests + 1):
        response = await client.get(f"{SESSIONS}/{UNKNOWN}", headers=key("admin"))
        assert response.status == 404
        assert "RateLimit" not in response.headers


class TestWithoutAccessControl:
    """The limit of addresses while access control is off."""

    @pytest.fixture
    def has_access(self) -> bool:
        return False

    async def test_every_request_counts(self, client: Client) -> None:
        """All requests to the API are the address's; probes and preflights are always served."""
        for n in range(1, ADDRESS.requests + 1):
            response = await client.get(f"{SESSIONS}/{UNKNOWN}")
            assert response.status == 404
            assert left_of(response, "address") == ADDRESS.requests - n
        await assert_error(await client.get(SESSIONS), 429, "RATE_LIMITED")
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert (await client.get(path)).status == 200
        assert (await client.options(SESSIONS)).status == 204

    async def test_the_document_has_the_429(self, client: Client) -> None:
        """Each operation that counts documents the 429 with its fields."""
        document = await (await client.get("/openapi.json")).json()
        paths = document["paths"]
        for path, method in ((SESSIONS, "get"), (f"{SESSIONS}/{{sessionId}}", "delete")):
            assert "Retry-After" in paths[path][method]["responses"]["429"]["headers"]
        assert "429" not in paths["/healthz"]["get"]["responses"]
        assert "429" not in paths[f"{SESSIONS}/{{sessionId}}/events"]["get"]["responses"]


class TestSockets:
    """Socket.IO while access control is off: each event is a request of the address."""

    @pytest.fixture
    def has_access(self) -> bool:
        return False

    async def test_each_event_costs_one(self, client: Client, connect: Connect) -> None:
        """Events beyond the limit are acknowledged with the error, and have no effect."""
        session = {"channelId": UNKNOWN}
        socket = await connect("websocket")  # costs one
        codes = [(await socket.emit("join", session))["error"]["code"] for _ in range(4)]
        assert codes == ["SESSION_NOT_FOUND"] * 3 + ["RATE_LIMITED"]
        acknowledgement = await socket.emit("leave", session)
        assert acknowledgement["error"]["code"] == "RATE_LIMITED"
        assert "RATE_LIMIT_ADDRESS" in acknowledgement["error"]["details"]
        await assert_error(await client.get(SESSIONS), 429, "RATE_LIMITED")
        metrics = await (await client.get("/metrics")).text()
        assert 'session_service_limited_total{by="address"} 3.0' in metrics

    async def test_an_address_beyond_its_limit_opens_no_socket(self, client: Client) -> None:
        """A handshake is a request; polls of a socket that is open are not."""
        for _ in range(ADDRESS.requests):
            assert (await client.get(POLL)).status == 200
        await assert_error(await client.get(POLL), 429, "RATE_LIMITED")


class TestUserOnSocket:
    """Socket.IO with access control: CONNECT and each event count for the credential."""

    async def test_events_cost_the_user(self, client: Client) -> None:
        """A user has one limit for requests and events; each event is charged by its script."""
        session_id = await create(client, BOB)
        socket = Socket()
        url = f"http://127.0.0.1:{client.port}"
        await socket.client.connect(
            url, auth={"token": "bob"}, transports=["websocket"], wait_timeout=10
        )
        try:
            assert (await socket.emit("join", {"channelId": session_id}))["success"]
            response = await client.get(f"{SESSIONS}/{session_id}", headers=key("bob"))
            assert left_of(response, "user") == 2
            message = {"type": 2, "payload": {"channelId": session_id, "message": "Hello"}}
            errors = [(await socket.emit("message", message)).get("error") for _ in range(3)]
            assert errors[:2] == [None, None]
            assert errors[2]["code"] == "RATE_LIMITED"
            assert "RATE_LIMIT_USER" in errors[2]["details"]
        finally:
            await socket.client.disconnect()
        response = await client.get(f"{SESSIONS}/{session_id}/messages", headers=key("all"))
        assert len((await response.json())["messages"]) == 2
