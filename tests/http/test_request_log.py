"""The log lines of requests that failed or were slow and, with ACCESS_LOG, of all."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from session_service.composition import Store
from tests.support.access import KnownCredentials
from tests.support.api import SESSIONS, Client, create
from tests.support.service import ServiceUnderTest, app_state
from tests.support.sockets import Socket
from tests.support.sse import EVENTS, follow
from tests.support.waiting import wait_until

UNKNOWN = "3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"
SESSION = f"{SESSIONS}/{{sessionId}}"
SECRET = "sk-not-to-be-logged"  # noqa: S105 - of nothing

Lines = Callable[[], list[dict[str, Any]]]
Serve = Callable[..., Any]


@pytest.fixture
def store_url() -> str:
    return "memory://"  # these tests do not depend on the store


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Return the function that returns the lines of requests since its last call."""
    own = {*vars(logging.makeLogRecord({})), "message", "asctime"}
    caplog.set_level(logging.INFO)

    def lines() -> list[dict[str, Any]]:
        loggers = ("session_service.requests", "session_service.access_log")
        found = [each for each in caplog.records if each.name in loggers]
        caplog.clear()
        return [
            {"event": each.getMessage(), "level": each.levelname}
            | {name: value for name, value in vars(each).items() if name not in own}
            for each in found
        ]

    return lines


@pytest.fixture
async def serve(store: Store, aiohttp_client: Callable[..., Any]) -> Serve:
    """Return the function that serves the store with options of AppState; it returns a client."""

    async def serve(**options: Any) -> Client:
        client: Client = await aiohttp_client(ServiceUnderTest(app_state(store, **options)))
        return client

    return serve


async def test_a_refused_request(serve: Serve, lines: Lines) -> None:
    """The line has the route, the status, the code, the duration and the credential."""
    client = await serve(access=KnownCredentials())
    headers = {"X-API-KEY": "all", "X-Request-ID": "abc"}
    assert (await client.delete(f"{SESSIONS}/{UNKNOWN}", headers=headers)).status == 404
    (line,) = lines()
    assert 0 < line.pop("ms") < 10_000
    assert line == {
        "event": "request refused",
        "level": "INFO",
        "count": 1,
        "method": "DELETE",
        "route": SESSION,
        "status": 404,
        "code": "SESSION_NOT_FOUND",
        "credential_kind": "key",
        "credential_id": "all",
        "credential_name": "all",
    }


async def test_no_line_has_a_text_of_the_client(serve: Serve, lines: Lines) -> None:
    """Neither a token in a path, a query or a header is logged, nor an unusual method."""
    client = await serve(access=KnownCredentials(), access_log=True)
    await client.get(f"/{SECRET}", headers={"X-API-KEY": SECRET})
    await client.get(f"{SESSIONS}/{SECRET}?token={SECRET}", headers={"X-API-KEY": SECRET})
    await client.request("PROPFIND", SESSIONS)
    logged = lines()
    assert [line["status"] for line in logged] == [404, 404, 401, 401, 405, 405]
    assert {line["path"] for line in logged if "path" in line} == {"/…", f"{SESSIONS}/…", SESSIONS}
    assert SECRET.upper() not in json.dumps(logged).upper()
    assert logged[-1]["method"] == "_OTHER"


async def test_a_request_that_succeeds_has_no_line(serve: Serve, lines: Lines) -> None:
    """Without ACCESS_LOG a request that succeeds in time is not logged."""
    client = await serve()
    await create(client)
    assert lines() == []


async def test_repeated_failures_are_one_line_a_second(
    serve: Serve, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures of one method, route and status are counted; others have lines of their own."""
    monkeypatch.setattr("session_service.logs._THROTTLE_SECONDS", 0.3)
    client = await serve()
    for _ in range(20):
        await client.get(f"{SESSIONS}/{UNKNOWN}")
    await client.delete(f"{SESSIONS}/{UNKNOWN}")
    await client.get("/none")
    found: list[dict[str, Any]] = []

    def counts() -> list[int]:
        found.extend(lines())
        return [
            each["count"] for each in found if (each["method"], each["route"]) == ("GET", SESSION)
        ]

    await wait_until(lambda: sum(counts()) == 20)
    assert len(counts()) <= 10
    others = [(each["method"], each["route"]) for each in found if each["route"] != SESSION]
    assert others == [("GET", "")]
    assert [each["count"] for each in found if each["method"] == "DELETE"] == [1]


@pytest.mark.parametrize("access_log", [False, True])
async def test_an_event_from_a_socket(serve: Serve, lines: Lines, *, access_log: bool) -> None:
    """An event that fails has the line of a request, named as its route; ACCESS_LOG has all."""
    client = await serve(access=KnownCredentials(), access_log=access_log)
    socket = Socket()
    url = f"http://127.0.0.1:{client.port}"
    await socket.client.connect(url, auth={"apiKey": "all"}, transports=["websocket"])
    try:
        assert (await socket.emit("leave", {"channelId": UNKNOWN}))["success"]
        assert not (await socket.emit("join", {"channelId": UNKNOWN}))["success"]
    finally:
        await socket.client.disconnect()
    found = [line for line in lines() if line["method"] == "socket.io"]
    assert [(each["event"], each["route"], each["status"]) for each in found] == [
        *[("request", "leave", 200)] * access_log,
        ("request refused", "join", 404),
        *[("request", "join", 404)] * access_log,
    ]
    assert found[-1]["code"] == "SESSION_NOT_FOUND"
    assert found[-1]["credential_name"] == "all"


async def test_a_slow_request(serve: Serve, lines: Lines) -> None:
    """A request that takes longer than SLOW_REQUEST_MS has a warning; with 0 none has."""
    client = await serve(slow_seconds=1e-9)
    await create(client)
    (line,) = lines()
    assert (line["event"], line["level"], line["status"]) == ("request is slow", "WARNING", 201)
    assert (line["method"], line["route"]) == ("POST", SESSIONS)
    client = await serve(slow_seconds=0)
    await create(client)
    assert lines() == []


async def test_a_failure_of_the_service(
    store: Store, serve: Serve, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response 5xx is a warning, and a defect an error with its traceback, both with a route."""

    async def fail(*_: Any) -> None:
        raise LookupError("an error that no code expects")

    client = await serve()
    client.server.service.draining = True
    assert (await client.get("/readyz")).status == 503
    (line,) = lines()
    assert (line["event"], line["level"], line["route"]) == ("request failed", "WARNING", "/readyz")
    monkeypatch.setattr(store.repository, "get", fail)
    assert (await client.get(f"{SESSIONS}/{UNKNOWN}")).status == 500
    (line,) = lines()
    assert (line["event"], line["level"], line["route"]) == ("defect", "ERROR", SESSION)
    assert line["status"] == 500


async def test_a_stream_that_is_refused_with_200(
    serve: Serve, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line has the status and code of the error that the stream reports."""
    client = await serve(max_in_flight=0)
    assert (await client.get(EVENTS)).status == 200
    assert lines() == []  # an overload is a line of another logger
    client = await serve()

    async def fail(*_: Any) -> None:
        raise LookupError

    monkeypatch.setattr(client.server.service.feed, "subscribe", fail)
    assert (await client.get(EVENTS)).status == 200
    (line,) = lines()
    assert (line["event"], line["status"]) == ("defect", 500)


async def test_the_access_log_has_every_request(serve: Serve, lines: Lines) -> None:
    """With ACCESS_LOG each request has a line with path and address, also if it fails."""
    client = await serve(access_log=True, slow_seconds=0)
    session = await create(client)
    path = f"{SESSIONS}/{session['sessionId']}"
    for _ in range(3):
        assert (await client.get(path)).status == 200
    await client.options(SESSIONS)
    await client.get("/healthz")
    await client.get("/metrics")
    await client.get("/none")
    found = [each for each in lines() if "path" in each]
    assert [(each["method"], each["path"], each["route"], each["status"]) for each in found] == [
        ("POST", SESSIONS, SESSIONS, 201),
        *[("GET", path, SESSION, 200)] * 3,
        ("OPTIONS", SESSIONS, SESSIONS, 204),
        ("GET", "/healthz", "/healthz", 200),
        ("GET", "/metrics", "/metrics", 200),
        ("GET", "/…", "", 404),
    ]
    assert {(each["event"], each["address"]) for each in found} == {("request", "127.0.0.1")}


async def test_the_access_log_has_the_end_of_a_stream(serve: Serve, lines: Lines) -> None:
    """A stream has a line at its start and one at its end, with the time it lasted."""
    client = await serve(access_log=True)
    source = await follow(client, EVENTS)
    (start,) = lines()
    await asyncio.sleep(0.05)  # the time that the line has to show
    source.response.close()
    found: list[dict[str, Any]] = []

    def has_ended() -> bool:
        found.extend(lines())
        return bool(found)

    await wait_until(has_ended)
    (end,) = found
    assert (start["event"], end["event"]) == ("request", "request ended")
    assert end["ms"] >= 50
    assert start | {"event": "", "ms": 0} == end | {"event": "", "ms": 0}
