"""Messages sent and received by Socket.IO, in the forms of the published clients."""

import asyncio
import json
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import pytest

from session_service.web.http.state import AppState
from session_service.web.streaming import engine, handshakes, rooms
from session_service.web.streaming.messages import names_of
from tests.support.api import SESSIONS, Client, create
from tests.support.factories import ID
from tests.support.sockets import Connect, Socket
from tests.support.waiting import a_moment_later, wait_until

UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# For tests that do not depend on the store.
NO_STORE = pytest.mark.parametrize("store_url", ["fakeredis"], indirect=True)
POLL = "/socket.io/?EIO=4&transport=polling"


async def create_and_join(
    client: Client, connect: Connect, *, sockets: int = 1
) -> tuple[Any, list[Socket]]:
    """Create a session; return it with sockets that have joined it."""
    session = await create(client)
    opened = [await connect() for _ in range(sockets)]
    for each in opened:
        await each.emit("join", {"channelId": session["sessionId"]})
    return session, opened


def client_message(session: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the message that a published client emits."""
    return {
        "type": 2,
        "payload": {
            "channelId": session["sessionId"],
            "roomId": session["sessionId"],
            "senderId": session["userId"],
            "senderName": "Ada",
            "message": "Hello",
            "messageId": "mine-1",
            "messageServerId": "00000000-0000-0000-0000-000000000000",
            "source": "client_chat",
            **fields,
        },
    }


async def test_a_message_is_stored_acknowledged_and_broadcast(
    client: Client, connect: Connect
) -> None:
    """Each member gets it once; only the sender gets its own id of the message."""
    session, (sender, other) = await create_and_join(client, connect, sockets=2)
    metadata = {"channelType": "dm"}
    attachments = [{"type": "image", "url": "https://example.org/a.png"}]
    message = client_message(session, metadata=metadata, attachments=attachments)
    acknowledged = await sender.emit("message", message)
    await wait_until(lambda: sender.of("messageBroadcast") and other.of("messageBroadcast"))

    (stored,) = (await (await client.get(f"{SESSIONS}/{session['sessionId']}/messages")).json())[
        "messages"
    ]
    kept = {**metadata, "user_display_name": "Ada", "source": "client_chat"}
    assert (stored["content"], stored["metadata"]) == ("Hello", kept)
    names = names_of(session["sessionId"])
    (ack,) = sender.of("messageAck")
    assert acknowledged == {"success": True, **ack}
    created_at = ack.pop("createdAt")
    assert ack == {
        "clientMessageId": "mine-1",
        "messageId": stored["id"],
        "status": "received_by_server_and_processing",
        **names,
    }
    shown = {
        "id": stored["id"],
        "senderId": session["userId"],
        "senderName": "Ada",
        "isAgent": False,
        "text": "Hello",
        "createdAt": created_at,
        "source": "client_chat",
        "metadata": kept,
        "attachments": attachments,
        **names,
    }
    assert sender.of("messageBroadcast") == [{**shown, "clientMessageId": "mine-1"}]
    assert other.of("messageBroadcast") == [shown]
    assert other.of("messageAck") == []


async def test_a_sender_that_has_not_joined_is_sent_its_message(
    client: Client, connect: Connect
) -> None:
    """A sender that has not joined gets its message, as from the published server."""
    session = await create(client)
    socket = await connect()
    payload = client_message(session)["payload"]
    assert (await socket.emit("2", payload))["success"]
    await wait_until(lambda: socket.of("messageBroadcast"))
    assert socket.of("messageBroadcast")[0]["clientMessageId"] == "mine-1"


async def test_who_sends_by_http_has_a_name_and_a_source(client: Client, connect: Connect) -> None:
    """Messages by HTTP have a sender's name and source, which their metadata may override."""
    session, (socket,) = await create_and_join(client, connect)
    url = f"{SESSIONS}/{session['sessionId']}/messages"
    for metadata in ({}, {"user_display_name": "Ada", "agentName": "Eliza", "source": "discord"}):
        for author in ("userId", "agentId"):
            body = {"content": "Hi", "authorId": session[author], "metadata": metadata}
            assert (await client.post(url, json=body)).status == 201
    await wait_until(lambda: len(socket.of("messageBroadcast")) == 4)
    assert [(each["senderName"], each["source"]) for each in socket.of("messageBroadcast")] == [
        ("User", "user"),
        ("Agent", "agent_response"),
        ("Ada", "discord"),
        ("Eliza", "discord"),
    ]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"message": ""}, "message must be "),
        ({"message": None}, "message is required"),
        ({"message": "x" * 4001}, "message must be "),
        ({"message": 1}, "message must be "),
        ({"senderId": "nobody"}, "senderId must be "),
        ({"senderId": ID}, "senderId must be "),
        ({"senderName": 1}, "senderName must be a string"),
        ({"senderName": "x" * 201}, "senderName must be a string"),
        ({"source": []}, "source must be a string"),
        ({"messageId": 1}, "messageId must be a string"),
        ({"messageId": "x" * 129}, "messageId must be a string"),
        ({"metadata": "x"}, "metadata must be an object"),
        ({"metadata": {"x": "x" * 10_240}}, "metadata must be an object"),
        ({"attachments": [{"type": "image"}]}, "attachments[0].url is required"),
        ({"channelId": None, "roomId": None}, "channelId is required"),
        ({"channelId": 5, "roomId": 5}, "channelId is required"),
        ({"channelId": "no-session", "roomId": None}, "Session not found"),
    ],
)
async def test_a_message_is_checked_as_one_by_http(
    client: Client, connect: Connect, fields: dict[str, Any], problem: str
) -> None:
    """Acknowledgement, ``error`` and ``messageError`` name the field; nothing is stored."""
    session, (socket,) = await create_and_join(client, connect)
    refused = await socket.emit("message", client_message(session, **fields))
    assert refused["error"]["message"].startswith(problem), refused
    assert socket.received == [
        ("error", refused),
        ("messageError", {"error": refused["error"]["message"]}),
    ]
    page = await (await client.get(f"{SESSIONS}/{session['sessionId']}/messages")).json()
    assert page["messages"] == []


async def test_optional_members_may_be_null(client: Client, connect: Connect) -> None:
    """Optional members that are null count as absent."""
    session, (socket,) = await create_and_join(client, connect)
    names = ("senderId", "senderName", "messageId", "source", "metadata", "attachments")
    acknowledged = await socket.emit("message", client_message(session, **dict.fromkeys(names)))
    assert (acknowledged["success"], acknowledged["clientMessageId"]) == (True, None)
    await wait_until(lambda: socket.of("messageBroadcast"))
    assert "clientMessageId" not in socket.of("messageBroadcast")[0]


async def test_the_largest_message_is_taken(client: Client, connect: Connect) -> None:
    """4,000 escaped characters with all allowed attachments and metadata are accepted."""
    session, (socket,) = await create_and_join(client, connect)
    attachments = [{"type": "image", "url": "https://example.org/" + "x" * 6200} for _ in range(10)]
    message = client_message(
        session, message="\U0001f600" * 4000, attachments=attachments, metadata={"x": "y" * 10_000}
    )
    assert len(json.dumps(message)) > 115_000
    assert (await socket.emit("message", message))["success"]


@NO_STORE
@pytest.mark.parametrize(
    ("packet", "code"),
    [
        ('["join",{"channelId":NaN}]', "INVALID_JSON"),
        ('["join",{"channelId":1e999}]', "INVALID_JSON"),
        ('["join",' + "[" * 20_000 + "]" * 20_000 + "]", "INVALID_JSON"),
        ('["join",{"channelId":' + "9" * 5000 + "}]", "INVALID_JSON"),
        ('["join",{"channelId":"x"]', "INVALID_JSON"),
        ('["join",{"channelId":"\\ud83d"}]', "INVALID_JSON"),
        ('["message",{"type":2,"payload":{"message":"\\ud83d"}}]', "INVALID_JSON"),
    ],
)
async def test_a_packet_that_is_no_strict_json_is_answered(
    client: Client, packet: str, code: str
) -> None:
    """A packet of invalid JSON is answered, and the socket stays open."""
    websocket = await client.ws_connect("/socket.io/?EIO=4&transport=websocket")
    await websocket.send_str("40")
    for sent in ("42" + packet, '421["leave","x"]'):
        await websocket.send_str(sent)
    received = ""
    async with asyncio.timeout(10):
        while not received.startswith("431"):
            if received.startswith('42["error"'):
                assert json.loads(received[2:])[1]["error"]["code"] == code
                code = "seen"
            received = await websocket.receive_str()
    assert code == "seen"
    await websocket.close()


async def test_a_join_is_announced_in_both_names(client: Client, connect: Connect) -> None:
    """A connection and a join are announced by the events that published clients wait for."""
    session, (socket,) = await create_and_join(client, connect)
    names = {"agentId": session["agentId"], **names_of(session["sessionId"])}
    (first, hello), *rest = socket.greetings
    assert (first, set(hello)) == ("connection_established", {"message", "socketId"})
    assert hello["socketId"] == socket.client.get_sid()
    said = {"message": f"Joined channel {session['sessionId']}", **names}
    assert rest == [("channel_joined", said), ("room_joined", said)]


async def test_an_id_in_upper_case_is_the_session(client: Client, connect: Connect) -> None:
    """An id in upper case is accepted; replies have it in lower case."""
    session = await create(client)
    socket = await connect()
    upper = session["sessionId"].upper()
    names = names_of(session["sessionId"])
    assert await socket.emit("join", {"channelId": upper}) == {"success": True, **names}
    sent = await socket.emit("message", client_message(session, channelId=upper))
    assert sent["channelId"] == session["sessionId"]
    assert await socket.emit("leave", {"channelId": upper}) == {"success": True, **names}


def nested(levels: int) -> dict[str, Any]:
    """Return objects and arrays nested in turn."""
    deep: Any = 1
    for n in range(levels):
        deep = [deep] if n % 2 else {"a": deep}
    return {"a": deep}


async def test_metadata_as_deep_as_is_taken_is_broadcast(client: Client, connect: Connect) -> None:
    """Metadata of the allowed depth is broadcast; deeper metadata is refused everywhere."""
    session, (socket,) = await create_and_join(client, connect)
    url = f"{SESSIONS}/{session['sessionId']}/messages"
    for levels, status in ((60, 201), (100, 400), (489, 400), (5000, 400)):
        body = {"content": "Hi", "metadata": nested(levels)}
        text = msgspec.json.encode(body) if levels < 1000 else deep_text(levels)
        response = await client.post(url, data=text, headers={"Content-Type": "application/json"})
        assert response.status == status
    assert (await socket.emit("message", client_message(session, metadata=nested(60))))["success"]
    refused = await socket.emit("message", client_message(session, metadata=nested(200)))
    assert refused["error"]["code"] in {"INVALID_JSON", "VALIDATION_ERROR"}
    await wait_until(lambda: len(socket.of("messageBroadcast")) == 2)
    assert [each["metadata"]["a"] for each in socket.of("messageBroadcast")] == [
        nested(60)["a"]
    ] * 2


def deep_text(levels: int) -> bytes:
    return b'{"content":"Hi","metadata":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"


async def test_a_room_reads_no_more_than_pages(
    client: Client, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any number of concurrent messages is broadcast in order, each once."""
    monkeypatch.setattr(rooms, "_PAGE", 3)
    session, (socket,) = await create_and_join(client, connect)
    url = f"{SESSIONS}/{session['sessionId']}/messages"
    await asyncio.gather(*(client.post(url, json={"content": str(n)}) for n in range(20)))
    await wait_until(lambda: len(socket.of("messageBroadcast")) == 20)
    shown = [each["createdAt"] for each in socket.of("messageBroadcast")]
    assert shown == sorted(set(shown))


@NO_STORE
async def test_messages_that_do_not_arrive_make_room(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If half-sent messages need too much memory, the oldest WebSockets are closed."""
    monkeypatch.setattr(client.server.service.admission.bodies, "_budget", 300_000)  # type: ignore[attr-defined]
    whole = await client.ws_connect("/socket.io/?EIO=4&transport=websocket")
    await whole.receive()
    await whole.send_str("40")
    for _ in range(10):
        await whole.send_str('42["leave","' + "x" * 30_000 + '"]')
    opened = []
    for _ in range(6):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        opened.append((reader, writer))
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x81\xff" + (100_000).to_bytes(8, "big") + bytes(4) + b"4" * 90_000)
    for reader, _ in opened[:3]:
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 5)
    assert not opened[-1][0].at_eof()
    await whole.send_str('421["leave","x"]')
    async with asyncio.timeout(5):
        while not (await whole.receive_str()).startswith("431"):
            pass
    await whole.close()
    for _, writer in opened:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def has_received(reader: Socket, messages: int) -> bool:
    return len(reader.of("messageBroadcast")) == messages


@NO_STORE
async def test_sockets_that_do_not_read_share_one_budget(
    client: Client, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A polling socket that never polls is closed if all have too much unread.

    A packet for many sockets counts once.
    """
    monkeypatch.setattr(engine, "UNREAD_BYTES", 200_000)
    monkeypatch.setattr(rooms, "SOCKET_SPARED_BYTES", 20_000)
    session, (reader,) = await create_and_join(client, connect)
    urls = [await handshake(client) for _ in range(6)]
    join = f'42["join","{session["sessionId"]}"]'
    for url in urls:
        assert (await client.post(url, data=f"40\x1e{join}")).status == 200
    url = f"{SESSIONS}/{session['sessionId']}/messages"
    for sent in range(10, 90, 10):
        body = {"content": "x" * 4000}
        await asyncio.gather(*(client.post(url, json=body) for _ in range(10)))
        await wait_until(partial(has_received, reader, sent))
        statuses = {(await client.post(each, data="3")).status for each in urls}
        assert statuses == ({200} if sent < 50 else {400})
        if sent >= 60:
            break


@NO_STORE
class TestHandshakes:
    """Polling clients that have opened a handshake and do not connect."""

    async def test_they_take_no_place_of_a_client(
        self, client: Client, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With more handshakes than allowed, new clients connect by either transport."""
        monkeypatch.setattr(handshakes, "HANDSHAKES", 200)
        for _ in range(250):
            async with client.get(POLL) as response:
                assert response.status == 200
        for transport in ("polling", "websocket"):
            assert (await connect(transport)).client.connected

    async def test_they_are_forgotten(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After its time a handshake is over: a waiting poll and a connect are refused."""
        monkeypatch.setattr(handshakes, "HANDSHAKE_SECONDS", 0.05)
        url = await handshake(client)
        async with client.get(url) as response:  # returns at the end of the handshake
            assert response.status == 400
        assert (await client.post(url, data="40")).status == 400

    async def test_a_poll_may_come_before_the_client_connects(
        self, client: Client, service: AppState
    ) -> None:
        """A poll may come first, on another connection, as from socket.io-client."""
        url = await handshake(client)
        poll = asyncio.create_task(client.get(url))
        await wait_until(lambda: service.admission.answered == 2, description="the poll waits")
        assert (await client.post(url, data="40")).status == 200
        assert (await (await poll).text()).startswith('40{"sid":')

    @pytest.mark.parametrize("packets", [[], ["40/other,"], ["3"]])
    async def test_a_websocket_that_does_not_connect_is_closed(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, packets: list[str]
    ) -> None:
        """A WebSocket that does not connect to the namespace in time is closed."""
        monkeypatch.setattr(engine, "HANDSHAKE_SECONDS", 0.1)
        websocket = await client.ws_connect("/socket.io/?EIO=4&transport=websocket")
        for packet in packets:
            await websocket.send_str(packet)
        async with asyncio.timeout(10):
            async for _ in websocket:
                pass
        assert websocket.closed

    async def test_a_client_that_connects_stays(
        self, client: Client, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A client that connects in time stays, by either transport."""
        monkeypatch.setattr(engine, "HANDSHAKE_SECONDS", 0.2)
        both = [await connect("polling"), await connect("websocket")]
        await a_moment_later(400)
        session = await create(client)
        for socket in both:
            assert (await socket.emit("join", session["sessionId"]))["success"]


async def handshake(client: Client) -> str:
    """Open a handshake; return the URL of the socket."""
    text = await (await client.get(POLL)).text()
    return f"{POLL}&sid={json.loads(text[1:])['sid']}"
