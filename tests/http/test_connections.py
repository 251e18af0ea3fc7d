"""Connections: their number, how long they may be idle, and probes if none is free."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from session_service.metrics.catalogue import REQUESTS
from session_service.web import server
from session_service.web.http import protocol
from session_service.web.http.state import AppState
from tests.support.api import SESSIONS, Client, create
from tests.support.factories import ID
from tests.support.raw import GET, HALF, Raw
from tests.support.service import ServiceUnderTest
from tests.support.sse import EVENTS

MOST = 4  # connections in the table in the table
HELD = 3  # connections in the table that streams and sockets may hold
OF_A_SESSION = f"{SESSIONS}/{ID}/events"
POLL = "/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"
UPGRADE = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
PROBES = ["/healthz", "/readyz"]

Connect = Callable[[], Awaitable[Raw]]


@pytest.fixture
def store_url() -> str:
    return "memory://"  # these tests do not depend on the store


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 0)


@pytest.fixture
async def port(service: AppState, aiohttp_client: Callable[..., Any]) -> int:
    """The port of a service with few connections."""
    client: Client = await aiohttp_client(ServiceUnderTest(service, MOST))
    assert client.port is not None
    return client.port


@pytest.fixture
async def connect(port: int) -> AsyncIterator[Connect]:
    """Connect to the service."""
    async with AsyncExitStack() as stack:

        async def connect() -> Raw:
            return await stack.enter_async_context(await Raw.to(port))

        yield connect


async def test_the_connection_idle_longest_makes_room(connect: Connect) -> None:
    """A new connection replaces the one that has been idle longest."""
    raws = [await connect() for _ in range(MOST)]
    for raw in [*raws[1:], raws[0]]:
        assert (await raw.get("/healthz"))[0] == 200
    for made_room in raws[1:3]:
        assert (await (await connect()).get("/api/messaging/sessions"))[0] == 200
        assert await made_room.rest() == b""
    for stays in (raws[0], raws[3]):
        assert (await stays.get("/healthz"))[0] == 200


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost:"], ids=["nothing", "half"])
async def test_a_table_full_of_silent_connections_is_no_outage(
    connect: Connect, sent: bytes
) -> None:
    """With any number of silent connections, probes and requests on new ones are answered."""
    silent = []
    for _ in range(3 * MOST):
        silent.append(await connect())
        silent[-1].send(sent)
        for path in (*PROBES, SESSIONS):
            assert (await (await connect()).get(path))[0] == 200
    assert await silent[0].rest() == b""


@pytest.fixture
async def busy(connect: Connect) -> list[Raw]:
    """Streams on all connections that they may hold, and a half-sent body on the last one."""
    raws = [await connect() for _ in range(MOST)]
    for raw in raws[:HELD]:
        raw.send(GET % EVENTS.encode())
        await raw.reader.readuntil(b"position\ndata: {}\n\n")
    for raw in raws[HELD:]:
        raw.send(HALF)
    return raws[:HELD]


async def test_probes_are_answered_when_all_connections_are_busy(
    client: Client, connect: Connect, busy: list[Raw]
) -> None:
    """Probes are answered on connections that then close; other requests are refused."""
    for path in PROBES * 20:
        status, head, _ = await (await connect()).get(path)
        assert (status, b"Connection: close" in head) == (200, True)
    status, head, body = await (await connect()).get(SESSIONS)
    assert (status, b"OVERLOADED" in body, b"Connection: close" in head) == (503, True, True)
    session = await create(client)
    for raw in busy:
        await raw.reader.readuntil(session["sessionId"].encode())


@pytest.mark.usefixtures("busy")
async def test_a_refusal_by_a_full_server_counts_for_its_route(
    service: AppState, connect: Connect
) -> None:
    """The rate of failed requests in the metrics has the 503 of a full server, too."""
    assert (await (await connect()).get(SESSIONS))[0] == 503
    counted = {
        series.labels: sum(series.numbers[:-1])
        for family, every in service.measures.numbers.families()
        if family is REQUESTS
        for series in every
    }
    assert counted["GET", SESSIONS, "503"] == 1


@pytest.mark.usefixtures("busy")
async def test_a_stream_is_told_to_come_back_when_all_connections_are_busy(
    connect: Connect,
) -> None:
    """A stream is told when to reconnect, as a 503 would end an EventSource for good."""
    refused = await connect()
    refused.send(GET % EVENTS.encode())
    response = await refused.rest()
    assert response.startswith(b"HTTP/1.1 200 ")
    assert b"\nretry: " in response


@pytest.mark.parametrize("path", [EVENTS, OF_A_SESSION, POLL, WEBSOCKET])
async def test_streams_and_sockets_leave_connections_for_requests(
    connect: Connect, path: str
) -> None:
    """Streams and sockets hold four of five connections at most."""
    for _ in range(HELD):
        raw = await connect()
        raw.send(GET % EVENTS.encode())
        await raw.reader.readuntil(b"position\ndata: {}\n\n")
    refused = await connect()
    refused.send(UPGRADE % path.encode() if path == WEBSOCKET else GET % path.encode())
    head = await refused.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 " if "/events" in path else b"HTTP/1.1 503 ")
    assert (await (await connect()).get(SESSIONS))[0] == 200
    assert not raw.is_closed


async def test_half_a_body_keeps_no_probe_out(connect: Connect) -> None:
    """If a half-sent body occupies the last connection, a probe uses a reserved one."""
    for _ in range(MOST):
        raw = await connect()
        raw.send(HALF)
    for path in PROBES * 20:
        assert (await (await connect()).get(path))[0] == 200


async def test_a_connection_without_a_request_is_closed(
    monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    """A connection without a request is closed soon; after a request it may be idle for longer."""
    monkeypatch.setattr(protocol, "FIRST_REQUEST_SECONDS", 0.1)
    used = await connect()
    assert (await used.get("/healthz"))[0] == 200
    assert await (await connect()).rest() == b""
    assert (await used.get("/healthz"))[0] == 200


async def test_an_idle_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch, service: AppState, aiohttp_client: Callable[..., Any]
) -> None:
    """A connection is closed a while after its last response."""
    monkeypatch.setattr(protocol, "FIRST_REQUEST_SECONDS", 0.05)
    for module in (server, protocol):
        monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    client = await aiohttp_client(ServiceUnderTest(service))
    async with await Raw.to(client.port) as raw:
        assert (await raw.get("/healthz"))[0] == 200
        assert await raw.rest() == b""


@pytest.mark.parametrize("before", [0, 1], ids=["first request", "second request"])
async def test_a_head_has_to_come_in_time(
    monkeypatch: pytest.MonkeyPatch, connect: Connect, before: int
) -> None:
    """A head that takes too long from its first byte on is answered 408."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    raw = await connect()
    for _ in range(before):
        assert (await raw.get("/healthz"))[0] == 200
    raw.send(b"GET /healthz HTTP/1.1\r\n")
    sent = 0
    while not raw.is_closed:
        raw.send(b"X")
        sent += 1
        assert sent < 1000
        try:
            async with asyncio.timeout(0.02):
                response = await raw.reader.readuntil(b"}}")
                break
        except TimeoutError:
            continue
    assert response.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"REQUEST_TIMEOUT"' in response
    assert await raw.rest() == b""


async def test_a_first_head_begun_late_has_to_end_in_time(
    monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    """The deadline of a first request includes the end of its head."""
    monkeypatch.setattr(protocol, "FIRST_REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1000)
    raw = await connect()
    raw.send(b"GET /healthz HTTP/1.1\r\n")
    assert (await raw.rest()).startswith(b"HTTP/1.1 408 ")


async def test_a_head_that_comes_in_time_is_served(
    monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    """A head in many pieces is served, and so is the request after it."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 5)
    raw = await connect()
    for _ in range(2):
        for byte in GET % b"/healthz":
            raw.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await raw.read_response())[0] == 200
