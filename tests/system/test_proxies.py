"""nginx and haproxy in front of the service, with TLS, by the configurations of docs/proxies.md."""

from pathlib import Path
from typing import Any

import pytest
import socketio
from aiohttp import ClientSession

from tests.support.api import SESSIONS, assert_error, create
from tests.support.processes import Start
from tests.support.proxies import PROXIES, proxy
from tests.support.sse import follow
from tests.support.tls import NAME, Certificate
from tests.support.waiting import wait_until

POLL = "/socket.io/?EIO=4&transport=polling"


async def exchange(client: ClientSession, url: str, transport: str) -> list[Any]:
    """Join a session by Socket.IO, send a message, and return the messages that the room got."""
    received: list[Any] = []
    socket = socketio.AsyncClient(http_session=client, reconnection=False)
    socket.on("messageBroadcast", received.append)
    session_id = (await create(client))["sessionId"]
    await socket.connect(url, headers={"Origin": url}, transports=[transport])
    try:
        await socket.call("join", {"channelId": session_id})
        path = f"{SESSIONS}/{session_id}/messages"
        async with client.post(path, json={"content": "Hello"}) as response:
            assert response.status == 201
        await wait_until(lambda: received, description="the message arrives by the socket")
        assert socket.transport() == transport
    finally:
        await socket.disconnect()
    return received


@pytest.mark.parametrize("kind", PROXIES)
async def test_the_configuration_works(
    start: Start, certificate: Certificate, tmp_path: Path, kind: str
) -> None:
    """The service's own pages use REST, streams, polls and WebSockets over TLS."""
    service = start(ALLOWED_HOSTS=NAME)
    with proxy(kind, tmp_path / kind, certificate, service.port) as public:
        async with public.client() as client:
            url = f"{SESSIONS}/{(await create(client))['sessionId']}"
            stream = await follow(client, f"{url}/events")  # arrives at once, unbuffered
            async with client.delete(url) as response:
                assert response.status == 200
            assert [event.name for event in await stream.rest()] == ["session.ended"]
            for transport in ("polling", "websocket"):
                (message,) = await exchange(client, public.url, transport)
                assert message["text"] == "Hello"


@pytest.mark.parametrize("kind", PROXIES)
async def test_clients_have_their_own_addresses(
    start: Start, certificate: Certificate, tmp_path: Path, kind: str
) -> None:
    """A limit counts each address behind the proxy apart, whatever a client writes in the field."""
    settings = {"TRUSTED_PROXIES": "127.0.0.1,::1", "RATE_LIMIT_ADDRESS": "2/3600s"}
    service = start(ALLOWED_HOSTS=NAME, **settings)
    statuses = []
    with proxy(kind, tmp_path / kind, certificate, service.port) as public:
        for address, forged in (
            ("127.0.0.2", "192.0.2.1"),
            ("127.0.0.2", "192.0.2.2"),
            ("127.0.0.2", "192.0.2.3"),
            ("127.0.0.3", "127.0.0.2"),
        ):
            async with (
                public.client(address, **{"X-Forwarded-For": forged}) as client,
                client.get(SESSIONS) as response,
            ):
                statuses.append(response.status)
    assert statuses == [200, 200, 429, 200]


async def test_a_proxy_that_changes_host_is_told(
    start: Start, certificate: Certificate, tmp_path: Path
) -> None:
    """The response and one log line name the origin, the setting and the header."""
    service = start()
    without = "proxy_set_header Host $http_host;"
    with proxy("nginx", tmp_path / "nginx", certificate, service.port, without=without) as public:
        async with public.client() as client:
            for _ in range(2):
                async with client.get(POLL) as response:
                    error: dict[str, Any] = await assert_error(response, 403, "FORBIDDEN")
                for named in (public.url, "SESSION_CORS_ORIGINS", "Host"):
                    assert named in error["details"]
    (line,) = [line for line in service.log if line["event"].startswith("origin refused")]
    assert line["value"] == f"'{public.url}'"
    assert "SESSION_CORS_ORIGINS" in line["event"]
    assert "Host" in line["event"]
