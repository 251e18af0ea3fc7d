"""Socket.IO: rooms, refusals and limits (issue 5, "Socket.IO")."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from session_service.web.http import protocol, transfers
from session_service.web.http.browsers import BrowserPolicy
from session_service.web.http.state import AppState
from session_service.web.server import Server
from session_service.web.streaming import rooms
from session_service.web.streaming.messages import names_of
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import ID
from tests.support.service import ServiceUnderTest
from tests.support.sockets import Connect, Socket, frame
from tests.support.waiting import wait_until

POLL = "/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("join", {"roomId": None}),
        ("join", {"channelId": None}),
        ("message", {"type": 1, "payload": {"roomId": None}}),
        ("message", {"type": 1, "payload": {"channelId": None}}),
        ("1", {"channelId": None}),
        ("join", {"sessionId": None}),
        ("message", {"type": 1, "channelId": None}),
        ("message", {"type": 1, "roomId": None, "entityId": "x"}),
    ],
)
async def test_each_way_to_join(
    client: Client, connect: Connect, name: str, form: dict[str, Any]
) -> None:
    """Every name of a join that published clients use works, and every reply has all of them."""

    def filled(form: dict[str, Any]) -> dict[str, Any]:
        return {
            key: filled(value) if isinstance(value, dict) else value or session["sessionId"]
            for key, value in form.items()
        }

    session = await create(client)
    socket = await connect()
    names = names_of(session["sessionId"])
    assert await socket.emit(name, filled(form)) == {"success": True, **names}
    await client.delete(f"{SESSIONS}/{session['sessionId']}")
    await wait_until(lambda: socket.of("sessionEnded") == [names])


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("join", [{"roomId": ID}], "SESSION_NOT_FOUND"),
        ("join", [{"roomId": "no-session"}], "SESSION_NOT_FOUND"),
        ("join", [{"roomId": 1}], "VALIDATION_ERROR"),
        ("join", [{}], "VALIDATION_ERROR"),
        ("join", [], "VALIDATION_ERROR"),
        ("leave", [{"room": "x"}], "VALIDATION_ERROR"),
        ("message", [{"type": 2, "payload": {"roomId": ID}}], "VALIDATION_ERROR"),
        ("message", [{"type": 1, "payload": None}], "VALIDATION_ERROR"),
        ("message", ["x"], "VALIDATION_ERROR"),
        ("message", [{"type": 3, "payload": {"channelId": ID}}], "VALIDATION_ERROR"),
    ],
)
async def test_what_cannot_be_is_refused(
    connect: Connect, name: str, arguments: list[Any], code: str
) -> None:
    """Acknowledgement, ``error`` and ``messageError`` give the reason; the socket stays open."""
    socket = await connect()
    refused = await socket.emit(name, *arguments)
    assert (refused["success"], refused["error"]["code"]) == (False, code)
    assert set(refused["error"]) == {"code", "message", "details"}
    assert socket.received == [
        ("error", refused),
        ("messageError", {"error": refused["error"]["message"]}),
    ]
    assert (await socket.emit(name, *arguments))["error"] == refused["error"]


async def test_who_leaves_is_told_no_more(
    client: Client, connect: Connect, service: AppState
) -> None:
    """A socket that left gets no more events; with nobody left the store is not read."""
    session_id = (await create(client))["sessionId"]
    one, other = await connect(), await connect()
    for each in (one, other):
        await each.emit("join", {"roomId": session_id})
    assert service.feed.subscribers == 1
    assert (await one.emit("leave", {"roomId": session_id}))["success"]
    await client.post(f"{SESSIONS}/{session_id}/messages", json={"content": "Hi"})
    await wait_until(lambda: "messageBroadcast" in other.names())
    assert one.received == []
    await other.client.disconnect()
    await wait_until(lambda: service.feed.subscribers == 0, description="the feed is not read")


async def test_a_client_cannot_replace_the_context_of_its_socket(
    client: Client, connect: Connect
) -> None:
    """The library passes an event with the name ``connect`` to the handler of connections."""
    session_id = (await create(client))["sessionId"]
    socket = await connect()
    await socket.client.emit("connect", {"asgi.scope": {"context": None}})
    assert (await socket.emit("join", {"roomId": session_id}))["success"]


async def test_the_end_of_a_session_empties_its_room(
    client: Client, connect: Connect, service: AppState
) -> None:
    """Sockets of an ended session stay open for other sessions."""
    ended, going_on = [(await create(client))["sessionId"] for _ in range(2)]
    socket = await connect()
    for session_id in (ended, going_on):
        await socket.emit("join", {"roomId": session_id})
    await client.delete(f"{SESSIONS}/{ended}")
    await wait_until(lambda: socket.received, description="the end is announced")
    await wait_until(lambda: service.feed.subscribers == 1, description="the room is empty")
    assert socket.received == [("sessionEnded", names_of(ended))]
    await client.post(f"{SESSIONS}/{going_on}/renew")
    await wait_until(lambda: "sessionRenewed" in socket.names())


async def test_messages_come_in_order_and_once(client: Client, connect: Connect) -> None:
    """Each socket gets every message once and in order, however many come at a time."""
    session_id = (await create(client))["sessionId"]
    both = [await connect(), await connect("polling")]
    for each in both:
        await each.emit("join", {"roomId": session_id})
    url = f"{SESSIONS}/{session_id}/messages"
    responses = await asyncio.gather(
        *(client.post(url, json={"content": str(n)}) for n in range(250))
    )
    sent = {(await response.json())["id"] for response in responses}
    await wait_until(lambda: all(x.names().count("messageBroadcast") == 250 for x in both))
    for each in both:
        messages = each.of("messageBroadcast")
        assert {message["id"] for message in messages} == sent
        times = [message["createdAt"] for message in messages]
        assert times == sorted(set(times))


async def test_a_socket_is_in_so_many_rooms_at_most(
    client: Client, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit a join is refused until a room is left."""
    monkeypatch.setattr(rooms, "ROOMS", 2)
    first, second, third = [{"roomId": (await create(client))["sessionId"]} for _ in range(3)]
    socket = await connect()
    for room in (first, second, second):
        assert (await socket.emit("join", room))["success"]
    refused = await socket.emit("join", third)
    assert refused["error"]["message"].startswith("channelId is one too many: a socket may be in 2")
    await socket.emit("leave", first)
    assert (await socket.emit("join", third))["success"]


@pytest.mark.parametrize("store_url", ["valkey"], indirect=True)
@pytest.mark.parametrize(
    ("seconds", "packets", "size"),
    [(0.2, 1_000_000, 1 << 40), (60, 20, 1 << 40), (60, 1_000_000, 100_000)],
)
async def test_a_client_that_does_not_read_is_cut(
    client: Client,
    connect: Connect,
    service: AppState,
    monkeypatch: pytest.MonkeyPatch,
    *,
    seconds: float,
    packets: int,
    size: int,
) -> None:
    """A client that does not read is closed; another client gets everything."""
    monkeypatch.setattr(transfers, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", seconds)
    monkeypatch.setattr(rooms, "SOCKET_UNREAD_PACKETS", packets)
    monkeypatch.setattr(rooms, "SOCKET_UNREAD_BYTES", size)
    shared, alone = [(await create(client))["sessionId"] for _ in range(2)]
    other = await connect()
    await other.emit("join", {"roomId": shared})
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port, limit=1024)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    writer.write(f"GET {WEBSOCKET} HTTP/1.1\r\n{head}\r\n{key}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    joins = [f'42["join",{{"roomId":"{session_id}"}}]' for session_id in (shared, alone)]
    writer.write(b"".join(map(frame, ("40", *joins))))
    await wait_until(lambda: service.feed.subscribers == 2, description="both rooms are joined")
    count = 0
    while service.feed.subscribers == 2:  # a client that does not read cannot see its end
        assert count < 1000
        url = f"{SESSIONS}/{shared}/messages"
        await asyncio.gather(*(client.post(url, json={"content": "x" * 4000}) for _ in range(20)))
        count += 20
        await wait_until(partial(has_messages, other, count))
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


def has_messages(socket: Socket, count: int) -> bool:
    return socket.names().count("messageBroadcast") == count


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", "clients of version 3 and 4"),
        ("?EIO=3&transport=polling", "clients of version 3 and 4"),
        ("?EIO=4&transport=x", "as the protocol has it"),
        ("?EIO=4&transport=websocket", "as the protocol has it"),
        ("?EIO=4&transport=polling&sid=unknown", "transports: ['websocket']"),
        ("?EIO=4&transport=websocket&sid=1.unknown", "transports: ['websocket']"),
    ],
)
async def test_other_requests_are_refused(client: Client, query: str, problem: str) -> None:
    """Other requests are a 400 whose details say why."""
    response = await client.get(f"/socket.io/{query}")
    assert problem in (await assert_error(response, 400, "BAD_REQUEST"))["details"]


async def open_by_polling(client: Client) -> str:
    """Open a socket by polling; return the URL of its polls."""
    text = await (await client.get(POLL)).text()
    sid = text.partition('"sid":"')[2].partition('"')[0]
    return f"{POLL}&sid={sid}"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("4" * 140_000, 413, "PAYLOAD_TOO_LARGE"),
        ('451-["join",{"_placeholder":true,"num":0}]', 400, "BAD_REQUEST"),
        ("3\x1ebAAAA", 400, "BAD_REQUEST"),
    ],
)
async def test_what_is_large_or_binary_is_refused(
    client: Client, body: str, status: int, code: str
) -> None:
    """A large or binary packet is refused by polling, and the socket stays open."""
    url = await open_by_polling(client)
    await assert_error(await client.post(url, data=body), status, code)
    assert await (await client.post(url, data="40")).text() == "OK"


@pytest.mark.parametrize("what", ["4" * 140_000, b"abc", '451-["x"]'])
async def test_a_websocket_that_sends_it_is_closed(client: Client, what: str | bytes) -> None:
    """A WebSocket that sends a large or binary packet is closed at once."""
    websocket = await client.ws_connect(WEBSOCKET)
    assert websocket._response.headers["X-Request-ID"]  # noqa: SLF001
    await websocket.receive()
    await (websocket.send_str(what) if isinstance(what, str) else websocket.send_bytes(what))
    message = await websocket.receive(5)
    assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED}


async def test_a_method_that_is_not_known_is_told(client: Client) -> None:
    """Another method is a 405 with Allow."""
    response = await client.delete("/socket.io/")
    await assert_error(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["Allow"] == "GET, OPTIONS, POST"


class TestOrigins:
    """Pages of other origins (setting SESSION_CORS_ORIGINS)."""

    @pytest.fixture(params=[(), ("https://a.example",), ("*",)])
    def origins(self, request: pytest.FixtureRequest) -> tuple[str, ...]:
        allowed: tuple[str, ...] = request.param
        return allowed

    @pytest.fixture
    def service(self, service: AppState, origins: tuple[str, ...]) -> AppState:
        service.browsers = BrowserPolicy(origins)
        return service

    async def test_those_allowed_are_served(self, client: Client, origins: tuple[str, ...]) -> None:
        """The service's own and allowed origins are served; of others not even a GET is."""
        own = f"http://127.0.0.1:{client.port}"
        allowed = {
            own: True,
            "https://a.example": bool(origins),
            "https://b.example": origins == ("*",),
        }
        for origin, is_allowed in allowed.items():
            response = await client.get(POLL, headers={"Origin": origin})
            if not is_allowed:
                error = await assert_error(response, 403, "FORBIDDEN")
                assert "SESSION_CORS_ORIGINS" in error["details"]
                assert "Access-Control-Allow-Origin" not in response.headers
            else:
                assert response.status == 200


async def test_there_are_so_many_sockets_at_most(
    service: AppState, aiohttp_client: Callable[..., Any]
) -> None:
    """Sockets are limited like connections, also between polls; handshakes do not count."""

    class Small(ServiceUnderTest):
        async def _make_runner(self, **_: Any) -> web.ServerRunner:
            return web.ServerRunner(Server(self.service, max_connections=1))

    client = await aiohttp_client(Small(service))
    first, second = await open_by_polling(client), await open_by_polling(client)
    assert (await client.post(first, data="40")).status == 200
    await assert_error(await client.post(second, data="40"), 503, "OVERLOADED")
    await assert_error(await client.get(POLL), 503, "OVERLOADED")
    await assert_error(await client.get(WEBSOCKET), 503, "OVERLOADED")


async def test_a_stopping_service_takes_no_sockets(
    client: Client, connect: Connect, service: AppState
) -> None:
    """A stopping service closes its sockets and accepts no more."""
    socket = await connect()
    stopping = asyncio.create_task(service.drain(5, lambda: False))
    await wait_until(lambda: not socket.client.connected)
    await assert_error(await client.get(POLL), 503, "NOT_READY")
    await stopping
