"""Socket.IO under access control: a client connects with a credential, which may end."""

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from socketio.exceptions import ConnectionError as Refused

from session_service.composition import Store
from session_service.domain.credentials import Permission
from session_service.domain.rates import RateLimit
from session_service.web.http import protocol
from session_service.web.http.address_limit import AddressLimit
from session_service.web.http.limits import RequestLimits
from session_service.web.http.state import AppState
from tests.support.access import (
    AGENT,
    ANN,
    KnownCredentials,
    by,
    create,
    expiring,
    page,
    user,
)
from tests.support.access import key as key_of
from tests.support.api import SESSIONS, Client
from tests.support.service import app_state
from tests.support.sockets import Connect, frame
from tests.support.waiting import wait_until

UNKNOWN = "3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"
URL = "/socket.io/?EIO=4&transport="
MESSAGES = 5  # that a stranger tries to get
SECONDS = 5.0  # within which a connection ends with its credential

both_transports = pytest.mark.parametrize("transport", ["polling", "websocket"])


@pytest.fixture
def access() -> KnownCredentials:
    return KnownCredentials()


@pytest.fixture
def service(store: Store, access: KnownCredentials) -> AppState:
    return app_state(store, access=access)


class Raw:
    """A client that sends and receives packets as they are on the wire."""

    def __init__(self, client: Client, transport: str, headers: dict[str, str]) -> None:
        self._client = client
        self._transport = transport
        self._headers = headers

    async def open(self) -> None:
        """Shake hands."""
        url = URL + self._transport
        if self._transport == "websocket":
            self._socket = await self._client.ws_connect(url, headers=self._headers)
            await self._socket.receive_str()
            return
        text = await (await self._client.get(url)).text()
        self._url = f"{url}&sid={json.loads(text[1:])['sid']}"

    async def send(self, packet: str) -> None:
        """Send a packet."""
        if self._transport == "websocket":
            await self._socket.send_str(packet)
            return
        await self._client.post(self._url, data=packet, headers=self._headers)

    async def receive(self) -> list[str]:
        """Return the packets of the next poll or the next one of a WebSocket, [] at the end."""
        async with asyncio.timeout(SECONDS):
            if self._transport == "websocket":
                message = await self._socket.receive()
                return [message.data] if isinstance(message.data, str) and message.data else []
            response = await self._client.get(self._url, headers=self._headers)
            text = await response.text()
            return text.split("\x1e") if response.status == 200 and text else []

    async def rest(self) -> list[str]:
        """Return all packets until the end."""
        packets: list[str] = []
        while received := await self.receive():
            packets += received
        return packets


async def open_raw(client: Client, transport: str, **headers: str) -> Raw:
    raw = Raw(client, transport, {name.replace("_", "-"): text for name, text in headers.items()})
    await raw.open()
    return raw


async def say(client: Client, session_id: str, text: str) -> None:
    url = f"{SESSIONS}/{session_id}/messages"
    response = await client.post(url, json={"content": text}, headers=by("all"))
    assert response.status == 201


@both_transports
@pytest.mark.parametrize(
    "auth", ["", "{}", '{"token":"nobody"}', '{"apiKey":7}', '["all"]', '{"token":null}']
)
async def test_a_client_without_a_valid_credential_is_refused(
    client: Client, transport: str, auth: str
) -> None:
    """The connect error has the body of a 401; until then a client may shake hands."""
    raw = await open_raw(client, transport)
    await raw.send(f"40{auth}")
    packet, *_ = await raw.receive()
    assert packet.startswith("44")
    refusal = json.loads(packet[2:])
    assert refusal["data"] == await (await client.get(SESSIONS)).json()
    assert refusal["message"] == refusal["data"]["error"]["message"]
    await raw.send('42["join",{"channelId":"x"}]')
    await raw.send('40{"apiKey":"all"}')
    packet, *_ = await raw.receive()
    assert packet.startswith('40{"sid"'), "it may try again, and its event was ignored"


@both_transports
@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        ({"token": "ann", "apiKey": "all"}, {}),
        ({"token": "ann"}, {"X_API_KEY": "all"}),
        ({}, {"X_API_KEY": "all", "Authorization": "Bearer ann"}),
    ],
)
async def test_two_credentials_are_refused(
    client: Client, transport: str, auth: dict[str, str], headers: dict[str, str]
) -> None:
    """A client that sends two credentials is refused, whatever they are."""
    raw = await open_raw(client, transport, **headers)
    await raw.send(f"40{json.dumps(auth)}")
    packet, *_ = await raw.receive()
    assert json.loads(packet[2:])["data"]["error"]["code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize(
    ("transport", "options"),
    [
        ("polling", {"auth": {"token": "ann"}}),
        ("polling", {"auth": {"apiKey": "all"}}),
        ("websocket", {"auth": {"token": "ann"}}),
        ("websocket", {"auth": {"apiKey": "all"}}),
        ("websocket", {"headers": {"X-API-KEY": "bound"}}),
        ("websocket", {"headers": {"Authorization": "Bearer ann"}}),
        ("websocket", {"auth": {"token": None}, "headers": {"X-API-KEY": "all"}}),
    ],
)
async def test_a_credential_may_be_in_each_place(
    client: Client, connect: Connect, transport: str, options: dict[str, Any]
) -> None:
    """A client with a valid credential joins, sends and receives."""
    session_id = await create(client)
    socket = await connect(transport, **options)
    assert (await socket.emit("join", {"channelId": session_id}))["success"]
    message = {"type": 2, "payload": {"channelId": session_id, "message": "Hello"}}
    assert (await socket.emit("message", message))["success"]
    await wait_until(lambda: [each["text"] for each in socket.of("messageBroadcast")] == ["Hello"])


@pytest.mark.parametrize("headers", [{"X_API_KEY": "ann"}, {"Authorization": "Bearer ann"}])
async def test_headers_count_when_a_client_polls(client: Client, headers: dict[str, str]) -> None:
    """The credential may be in the headers of the POST that has the packet CONNECT."""
    raw = await open_raw(client, "polling", **headers)
    await raw.send("40")
    packet, *_ = await raw.receive()
    assert packet.startswith('40{"sid"')


@pytest.mark.parametrize(
    ("lacking", "event", "payload"),
    [
        (Permission.EVENTS_READ, "join", {"channelId": UNKNOWN}),
        (Permission.MESSAGES_READ, "join", {"channelId": UNKNOWN}),
        (Permission.MESSAGES_WRITE, "2", {"channelId": UNKNOWN, "message": "Hello"}),
    ],
)
async def test_events_need_their_scopes(
    connect: Connect,
    access: KnownCredentials,
    lacking: Permission,
    event: str,
    payload: dict[str, str],
) -> None:
    """A missing scope is acknowledged with its name, before a session is looked up."""
    access.known["lacking"] = key_of("lacking", None, lacking)
    socket = await connect(auth={"apiKey": "lacking"})
    refused = await socket.emit(event, payload)
    assert (refused["success"], refused["error"]["code"]) == (False, "FORBIDDEN")
    assert lacking in refused["error"]["details"]
    assert (await socket.emit("leave", {"channelId": UNKNOWN}))["success"]


async def test_a_user_speaks_only_for_itself(client: Client, connect: Connect) -> None:
    """A user's message in another's name is acknowledged as forbidden, and not stored."""
    session_id = await create(client)
    socket = await connect(auth={"token": "ann"})
    message = {"channelId": session_id, "message": "Hello", "senderId": AGENT}
    assert (await socket.emit("2", message))["error"]["code"] == "FORBIDDEN"


@both_transports
@pytest.mark.parametrize("name", ["bob", "other-bound", "other-page"])
async def test_a_session_of_another_does_not_exist(
    client: Client, connect: Connect, access: KnownCredentials, transport: str, name: str
) -> None:
    """All replies are those for an unknown session, and no event of it comes, also while it is
    open for others."""
    session_id = await create(client)
    access.known["other-page"] = page(await create(client), ANN)
    owner = await connect(auth={"token": "ann"})
    await owner.emit("join", {"channelId": session_id})
    replies: list[bytes] = []
    for each in (UNKNOWN, session_id):
        stranger = await connect(transport, auth={"token": name})
        payload = {"channelId": each, "message": "Hello"}
        for event in ("join", "2", "leave"):
            if each == session_id and event == "join":
                for count in range(1, MESSAGES + 1):
                    await say(client, each, "secret")
                    while len(owner.of("messageBroadcast")) < count:
                        await stranger.emit("join", {"channelId": each})
            replies.append(msgspec.json.encode(await stranger.emit(event, payload)))
        received = {json.dumps(each) for each in stranger.received}
        replies.append(msgspec.json.encode(sorted(received)))
    unknown, known = replies[:4], replies[4:]
    assert [each.replace(session_id.encode(), UNKNOWN.encode()) for each in known] == unknown


async def test_a_client_cannot_change_its_credential(
    client: Client, connect: Connect, service: AppState
) -> None:
    """An event that a client calls ``connect`` or ``disconnect`` does not connect it anew."""
    session_id = await create(client)
    socket = await connect(auth={"token": "bob"})
    await socket.client.emit("connect", ({}, {"apiKey": "all"}))
    refused = await socket.emit("join", {"channelId": session_id})
    assert refused["error"]["code"] == "SESSION_NOT_FOUND"
    assert service.feed.subscribers == 0


@both_transports
@pytest.mark.parametrize("is_revoked", [False, True])
async def test_a_socket_ends_with_its_credential(
    client: Client,
    connect: Connect,
    access: KnownCredentials,
    service: AppState,
    transport: str,
    *,
    is_revoked: bool,
) -> None:
    """It gets an event that says so, is disconnected, and gets nothing afterwards."""
    session_id = await create(client)
    credential = key_of("short")
    access.known["short"] = credential if is_revoked else expiring(credential, 1)
    socket, other = (
        await connect(transport, auth={"apiKey": "short"}),
        await connect(auth={"apiKey": "all"}),
    )
    for each in (socket, other):
        assert (await each.emit("join", {"channelId": session_id}))["success"]
    await say(client, session_id, "before")
    await wait_until(lambda: socket.names() == ["messageBroadcast"])
    if is_revoked:
        access.revoked.add("short")
    await wait_until(lambda: "credential-expired" in socket.names())
    await say(client, session_id, "afterwards")
    await wait_until(lambda: not socket.client.connected, description="it is disconnected")
    await wait_until(lambda: len(other.of("messageBroadcast")) == 2)
    assert socket.received[1:] == [("credential-expired", {})]
    await other.client.disconnect()
    await wait_until(lambda: service.feed.subscribers == 0)


@both_transports
async def test_the_last_packets_of_a_socket(
    client: Client, access: KnownCredentials, transport: str
) -> None:
    """A poll that waits ends, too; then the client can do nothing more."""
    session_id = await create(client)
    access.known["short"] = expiring(user(ANN), 0.5)
    raw = await open_raw(client, transport)
    await raw.send('40{"token":"short"}')
    received = [await raw.receive()]
    while not any("connection_established" in packet for packet in received[-1]):
        received.append(await raw.receive())
    packets = await raw.receive()
    if transport == "websocket":
        packets += await raw.receive()
    assert packets == ['42["credential-expired",{}]', "41"]
    await raw.send(f'42["2",{{"channelId":"{session_id}","message":"Hello"}}]')
    for _ in range(2):
        assert await raw.rest() == []
    stored = await client.get(f"{SESSIONS}/{session_id}/messages", headers=by("all"))
    assert (await stored.json())["messages"] == []


async def test_a_client_that_does_not_read_is_cut_with_its_credential(
    client: Client,
    access: KnownCredentials,
    service: AppState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not hold its connection, in which events wait, for longer than others."""
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 600)
    session_id = await create(client)
    access.known["short"] = key_of("short")
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port, limit=1024)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
    keys = "X-API-KEY: short\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    writer.write(f"GET {URL}websocket HTTP/1.1\r\n{head}\r\n{keys}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.write(frame("40") + frame(f'42["join",{{"roomId":"{session_id}"}}]'))
    await wait_until(lambda: service.feed.subscribers == 1)
    await asyncio.gather(*(say(client, session_id, "x" * 4000) for _ in range(100)))
    await wait_until(lambda: bool(service.admission.unread), description="it does not read")
    service.admission.max_held = 1
    assert (await client.get(f"{URL}polling")).status == 503
    access.revoked.add("short")

    async def has_been_cut() -> bool:
        return (await client.get(f"{URL}polling")).status == 200

    await wait_until(has_been_cut, SECONDS)
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


@both_transports
async def test_an_outage_is_no_refusal(
    client: Client, connect: Connect, access: KnownCredentials, transport: str
) -> None:
    """If a credential cannot be verified, sockets are closed so that clients connect again."""
    socket = await connect(transport, auth={"apiKey": "all"})
    access.is_outage = True
    await wait_until(lambda: not socket.client.connected)
    assert socket.received == []
    raw = await open_raw(client, transport)
    await raw.send('40{"apiKey":"all"}')
    assert await raw.rest() == []


async def test_a_refused_client_is_closed(client: Client) -> None:
    """A client that was refused and does not try again is disconnected."""
    raw = await open_raw(client, "websocket")
    await raw.send("40")
    assert len(await raw.rest()) == 1


class TestLimit:
    """Attempts to connect count towards the limit of the address."""

    @pytest.fixture
    def service(self, store: Store, access: KnownCredentials) -> AppState:
        limits = RequestLimits(addresses=AddressLimit(RateLimit(2, 600)))
        return app_state(store, access=access, limits=limits)

    async def test_guesses_are_limited(self, connect: Connect, client: Client) -> None:
        """After some invalid credentials the address is refused, in REST and here."""
        for _ in range(2):
            with pytest.raises(Refused):
                await connect(auth={"apiKey": "guess"})
        assert (await client.get(SESSIONS)).status == 429
        raw = await open_raw(client, "websocket")
        await raw.send('40{"apiKey":"guess"}')
        assert await raw.rest() == [], "it is disconnected, and may come back"
        connected = await connect(auth={"apiKey": "all"})
        assert connected.client.connected
