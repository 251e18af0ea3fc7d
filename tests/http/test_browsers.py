"""Requests by browsers: pages of other origins, foreign host names, CORS, preflights."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import ClientResponse

from session_service.web.http.browsers import BrowserPolicy
from session_service.web.http.state import AppState
from tests.support.api import SESSIONS, Client, assert_error, create, send_raw
from tests.support.factories import ID

LISTED, OTHER = "https://app.example", "https://evil.example"
POLL = "/socket.io/?EIO=4&transport=polling"

Speak = Callable[..., Any]


@pytest.fixture
def store_url() -> str:
    """One store, as these tests do not depend on it."""
    return "memory://"


@pytest.fixture
def origins() -> tuple[str, ...]:
    """The allowed origins; a test may override them."""
    return (LISTED,)


@pytest.fixture
def service(service: AppState, origins: tuple[str, ...]) -> AppState:
    """A service that allows an origin and a few hosts."""
    service.browsers = BrowserPolicy(origins, ("sessions.example", "*.pods.example"))
    return service


CHANGES = [
    ("POST", SESSIONS),
    ("POST", f"{SESSIONS}/{ID}/renew"),
    ("POST", f"{SESSIONS}/{ID}/heartbeat"),
    ("POST", f"{SESSIONS}/{ID}/messages"),
    ("DELETE", f"{SESSIONS}/{ID}"),
    ("DELETE", f"{SESSIONS}?all=true"),
    ("PATCH", f"{SESSIONS}/{ID}/timeout"),
    ("PATCH", f"{SESSIONS}/{ID}"),
    ("POST", "/api/messaging/webhooks"),
    ("POST", POLL),
    ("GET", POLL),
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": OTHER},
        {"Origin": OTHER},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "\udcff"},
        {"Origin": LISTED + ".evil.example"},
        {"Origin": ""},
    ],
)
async def test_a_page_of_another_origin_changes_nothing(
    client: Client, method: str, path: str, headers: dict[str, str]
) -> None:
    """A page of another origin gets a 403 that names the setting, without CORS headers."""
    response = await client.request(method, path, headers=headers)
    error = await assert_error(response, 403, "FORBIDDEN")
    assert "SESSION_CORS_ORIGINS" in error["details"]
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": LISTED},
        {"Origin": LISTED, "Sec-Fetch-Site": "cross-site"},
        {"Origin": LISTED.upper() + ":443"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": OTHER},
        {"Origin": "https://sessions.example", "Host": "sessions.example"},
        {"Origin": "https://sessions.example", "Host": "sessions.example:443"},
        {"Origin": "http://Sessions.example", "Host": "sessions.example"},
    ],
)
async def test_others_change_what_they_like(client: Client, headers: dict[str, str]) -> None:
    """Servers, allowed origins and the service's own origin, also behind TLS, may make changes."""
    response = await client.delete(f"{SESSIONS}/{ID}", headers=headers)
    await assert_error(response, 404, "SESSION_NOT_FOUND")
    assert (await client.get(POLL, headers=headers)).status == 200


async def test_another_page_may_still_read_without_seeing(client: Client) -> None:
    """A GET of another page is answered without CORS headers, so the browser hides it."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}"
    response = await client.get(url, headers={"Origin": OTHER, "Sec-Fetch-Site": "cross-site"})
    assert response.status == 200
    assert "Access-Control-Allow-Origin" not in response.headers
    assert response.headers["Vary"] == "Origin"


HOSTS = {
    "evil.example": False,
    "evil.example:3000": False,
    "sessions.example.evil.example": False,
    "localhost.evil.example": False,
    "127.0.0.1.evil.example": False,
    "[::1].evil.example": False,
    "1.2.3": False,
    "\udcff.example": False,
    "pods.example": False,
    "localhost": True,
    "localhost.": True,
    "LOCALHOST:3000": True,
    "sessions:3000": True,
    "127.0.0.1": True,
    "192.168.1.5:3000": True,
    "[::1]": True,
    "[fe80::1]:3000": True,
    "[::ffff:127.0.0.1]:3000": True,
    "sessions.example": True,
    "Sessions.Example.:3000": True,
    "a.pods.example": True,
    "a.b.pods.example": False,
}


@pytest.mark.parametrize("host", HOSTS)
async def test_only_known_hosts_are_answered(
    client: Client, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that points its own host name at the service is refused; response and log say why."""
    for path in (f"{SESSIONS}/{ID}", "/healthz", "/nothing", POLL):
        response = await client.get(path, headers={"Host": host})
        if HOSTS[host]:
            assert response.status != 403
        else:
            error = await assert_error(response, 403, "FORBIDDEN")
            assert "ALLOWED_HOSTS" in error["details"]
    logged = [record for record in caplog.records if "ALLOWED_HOSTS" in record.getMessage()]
    assert len(logged) == (0 if HOSTS[host] else 1)


def test_refusals_are_logged_for_few_hosts(caplog: pytest.LogCaptureFixture) -> None:
    """Made-up host names do not fill the log."""
    policy = BrowserPolicy()
    for n in range(100):
        with pytest.raises(Exception, match="host"):
            policy.admit("GET", {"Host": f"{n}.example"})
    assert 1 < len([r for r in caplog.records if r.levelno == logging.WARNING]) <= 20


@pytest.mark.parametrize("policy", [BrowserPolicy(hosts=("*",)), BrowserPolicy(any_host=True)])
def test_every_host_may_be_allowed(policy: BrowserPolicy) -> None:
    """Every host is allowed by the setting, or if callers need a credential."""
    policy.admit("GET", {"Host": "evil.example"})


def test_http_1_0_needs_no_host() -> None:
    """HTTP/1.0, which no browser sends, needs no Host header."""
    BrowserPolicy().admit("GET", {})


PREFLIGHTS = {
    SESSIONS: "DELETE, GET, HEAD, OPTIONS, POST",
    f"{SESSIONS}/{ID}": "DELETE, GET, HEAD, OPTIONS, PATCH",
    f"{SESSIONS}/{ID}/renew": "OPTIONS, POST",
    f"{SESSIONS}/{ID}/timeout": "OPTIONS, PATCH",
    f"{SESSIONS}/{ID}/events": "GET, HEAD, OPTIONS",
    "/api/messaging/webhooks": "GET, HEAD, OPTIONS, POST",
    "/healthz": "GET, HEAD, OPTIONS",
    "/openapi.json": "GET, HEAD, OPTIONS",
    "/socket.io/": "GET, OPTIONS, POST",
}


@pytest.mark.parametrize(("path", "methods"), PREFLIGHTS.items())
async def test_a_preflight_is_answered(client: Client, path: str, methods: str) -> None:
    """A preflight is a 204 with the allowed methods and headers, for allowed origins only."""
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-trace",
    }
    response = await client.options(path, headers={"Origin": LISTED, **preflight})
    assert (response.status, await response.read()) == (204, b"")
    assert "Content-Length" not in response.headers
    assert response.headers["Allow"] == response.headers["Access-Control-Allow-Methods"] == methods
    allowed = response.headers["Access-Control-Allow-Headers"]
    assert {"Content-Type", "Idempotency-Key", "Last-Event-ID", "x-trace"} <= set(
        allowed.replace(" ", "").split(",")
    )
    assert int(response.headers["Access-Control-Max-Age"]) > 0
    assert_allowed(response)
    other = await client.options(path, headers={"Origin": OTHER, **preflight})
    assert (other.status, other.headers["Vary"]) == (204, "Origin")
    assert not [name for name in other.headers if name.startswith("Access-Control-")]


@pytest.mark.parametrize("path", ["*", "/"])
async def test_health_checkers_may_ask_with_options(client: Client, path: str) -> None:
    """OPTIONS of the whole server is a 204 with every method in Allow, and so is that of ``/``."""
    response = await send_raw(
        client, f"OPTIONS {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert response.startswith(b"HTTP/1.1 204 ")
    assert b"Allow: DELETE, GET, HEAD, OPTIONS, PATCH, POST\r\n" in response


async def test_options_of_an_unknown_path_is_not_found(client: Client) -> None:
    """OPTIONS of an unknown path is a 404."""
    await assert_error(await client.options("/nothing"), 404, "NOT_FOUND")


async def test_a_listed_page_sees_every_answer(client: Client) -> None:
    """Successes, errors, event streams and Socket.IO polls have the CORS headers."""
    headers = {"Origin": LISTED, "Sec-Fetch-Site": "cross-site"}
    body = {"agentId": ID, "userId": ID}
    created = await client.post(SESSIONS, json=body, headers=headers)
    assert created.status == 201
    url = f"{SESSIONS}/{(await created.json())['sessionId']}"
    responses = [
        created,
        await client.get(url, headers=headers),
        await client.get(f"{url}/events", headers=headers),
        await client.get("/api/messaging/events", headers=headers),
        await client.get(POLL, headers=headers),
        await client.post(POLL, headers=headers),
        await client.get(f"{SESSIONS}/{ID}", headers=headers),
        await client.get("/nothing", headers=headers),
        await client.put(SESSIONS, headers=headers),
        await client.post(SESSIONS, json={}, headers=headers),
        await client.get("/healthz", headers=headers),
    ]
    assert [response.status for response in responses] == [
        *(201, 200, 200, 200, 200),
        *(400, 404, 404, 405, 400, 200),
    ]
    for response in responses:
        assert_allowed(response)
        response.close()


@pytest.mark.parametrize("origins", [("*",)])
async def test_every_page_is_allowed_by_a_star(client: Client) -> None:
    """SESSION_CORS_ORIGINS=* allows every origin, but no credentials."""
    headers = {"Origin": OTHER, "Sec-Fetch-Site": "cross-site"}
    response = await client.post(SESSIONS, json={"agentId": ID, "userId": ID}, headers=headers)
    assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (201, "*")
    assert "Access-Control-Allow-Credentials" not in response.headers


async def test_a_server_gets_no_cors_headers(client: Client) -> None:
    """Without an Origin header a response has only Vary, for caches."""
    response = await client.get("/healthz")
    assert response.headers["Vary"] == "Origin"
    assert not [name for name in response.headers if name.startswith("Access-Control-")]


def assert_allowed(response: ClientResponse) -> None:
    """Check that a page of the allowed origin may read a response."""
    assert response.headers.getall("Access-Control-Allow-Origin") == [LISTED]
    assert response.headers["Vary"] == "Origin"
    exposed = response.headers["Access-Control-Expose-Headers"]
    assert exposed == "Location, Retry-After, X-Request-ID"
