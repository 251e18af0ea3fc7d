"""The real socket.io-client, connected to one of several nodes."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from session_service.web.streaming.messages import names_of
from tests.support.api import SESSIONS, create
from tests.support.npm import JS, installed
from tests.support.processes import ServiceProcess, Start, run

ENDS_SECONDS = 5  # within which a socket ends after the revocation of its key
SHORT = {"SESSION_MIN_TIMEOUT_MINUTES": "0.01", "SESSION_WARNING_THRESHOLD_MINUTES": "0.005"}


@pytest.fixture
def client_folder(pytestconfig: pytest.Config) -> Path:
    """The folder of socket.io-client."""
    return installed(pytestconfig, "socket.io")


class Listener:
    """A client in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.first: list[Any] = []  # the data of the event until which it was opened

    async def emit(self, *arguments: Any) -> Any:
        """Emit an event; return its acknowledgement."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
        return (await self.next("ack"))[0]

    async def next(self, expected: str) -> list[Any]:
        """Return the data of the next event of a name; skip others."""
        assert self._process.stdout
        async with asyncio.timeout(30):
            while line := await self._process.stdout.readline():
                name, *data = json.loads(line)
                if name == expected:
                    return list(data)
        raise AssertionError(f"it ended without {expected}")

    async def stop(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        await self._process.wait()


Listen = Callable[..., Any]


@pytest.fixture
async def listen(client_folder: Path) -> AsyncIterator[Listen]:
    """Open a socket at a node, by these transports, and wait for an event of the client."""
    async with AsyncExitStack() as stack:

        async def listen(
            node: ServiceProcess,
            transports: str = "websocket",
            auth: dict[str, str] | None = None,
            until: str = "connect",
        ) -> Listener:
            process = await asyncio.create_subprocess_exec(
                "node",
                str(JS / "listen.mjs"),
                str(client_folder),
                f"http://127.0.0.1:{node.port}",
                transports,
                json.dumps(auth or {}),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            listener = Listener(process)
            stack.push_async_callback(listener.stop)
            listener.first = await listener.next(until)
            return listener

        yield listen


@asynccontextmanager
async def two_nodes(start: Start, store_url: str, **settings: str) -> AsyncIterator[Any]:
    here, there = (start(REDIS_URL=store_url, **settings) for _ in range(2))
    async with there.client() as client:
        yield here, client


@pytest.mark.parametrize("transports", ["websocket", "polling", "polling,websocket"])
async def test_a_socket_on_one_node_is_told_what_happens_at_the_other(
    start: Start, store_url: str, listen: Listen, transports: str
) -> None:
    """Messages, a renewal and the end on another node arrive by their published names."""
    async with two_nodes(start, store_url) as (here, client):
        session = await create(client, timeoutConfig={"autoRenew": False})
        session_id, url = session["sessionId"], f"{SESSIONS}/{session['sessionId']}"
        names = names_of(session_id)
        socket = await listen(here, transports)
        assert (await socket.emit("join", {"roomId": session_id}))["success"]

        async with client.post(f"{url}/renew") as response:
            info = await response.json()
        (renewed,) = await socket.next("sessionRenewed")
        assert renewed == {
            **names,
            "expiresAt": info["expiresAt"],
            "renewalCount": 1,
        }
        message = {"content": "Hello", "metadata": {"a": [1]}}
        async with client.post(f"{url}/messages", json=message) as response:
            sent = await response.json()
        (message,) = await socket.next("messageBroadcast")
        assert message.pop("createdAt") > 1_700_000_000_000
        assert message == {
            "id": sent["id"],
            "senderId": session["userId"],
            "senderName": "User",
            "isAgent": False,
            "text": "Hello",
            "source": "user",
            "metadata": {"a": [1]},
            **names,
        }
        await client.delete(url)
        assert await socket.next("sessionEnded") == [names]
        refused = await socket.emit("join", {"roomId": session_id})
        assert refused["error"]["code"] == "SESSION_NOT_FOUND"


async def test_a_session_that_runs_out_is_told(
    start: Start, store_url: str, listen: Listen
) -> None:
    """The warning with the minutes left arrives, and then the expiry."""
    async with two_nodes(start, store_url, **SHORT) as (here, client):
        timeouts = {"timeoutMinutes": 0.03, "warningThresholdMinutes": 0.01}  # 1.8 s, 0.6 s
        socket = await listen(here)
        session = await create(client, timeoutConfig=timeouts)
        session_id = session["sessionId"]
        joined = await socket.emit("message", {"type": 1, "payload": {"roomId": session_id}})
        assert joined["channelId"] == session_id
        (warning,) = await socket.next("sessionExpirationWarning")
        assert warning == {**names_of(session_id), "minutesRemaining": 1}
        (expired,) = await socket.next("sessionExpired")
        assert expired == {**names_of(session_id), "expiredAt": session["expiresAt"]}
        refused = await socket.emit("join", {"roomId": session_id})
        assert refused["error"]["code"] == "SESSION_EXPIRED"


@pytest.mark.parametrize("transports", ["websocket", "polling"])
async def test_a_stop_closes_sockets_so_that_they_come_back(
    start: Start, store_url: str, listen: Listen, transports: str
) -> None:
    """A stop does not send a disconnect, so that clients reconnect; the process ends in time."""
    node = start(REDIS_URL=store_url)
    port = str(node.port)
    socket = await listen(node, transports)
    async with node.client() as client:
        session_id = (await create(client))["sessionId"]
    await socket.emit("join", {"roomId": session_id})
    node.signal(signal.SIGTERM)
    (reason,) = await socket.next("disconnect")
    assert reason in {"transport close", "transport error"}
    assert node.wait() == 0
    assert [line for line in node.log if line["level"] == "error"] == []
    start(REDIS_URL=store_url, PORT=port)
    await socket.next("connect")
    assert (await socket.emit("join", {"roomId": session_id}))["success"]


async def test_ten_thousand_handshakes_cost_next_to_nothing(start: Start, store_url: str) -> None:
    """During 10,000 handshakes on one connection, probes and new clients are served."""
    node = start(REDIS_URL=store_url)
    port = node.port
    before = memory_mb(node)
    async with node.client() as flood, node.client() as client:
        for n in range(10_000):
            async with flood.get("/socket.io/?EIO=4&transport=polling") as response:
                assert response.status == 200
            if n % 1000 == 0:
                async with client.get("/readyz") as response:
                    assert response.status == 200
        assert memory_mb(node) < before + 20
        for path in ("/healthz", "/socket.io/?EIO=4&transport=polling"):
            async with client.get(path) as response:
                assert response.status == 200
        url = f"http://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
        async with client.ws_connect(url) as websocket:
            assert (await websocket.receive_str()).startswith("0")


def memory_mb(node: ServiceProcess) -> int:
    status = Path(f"/proc/{node.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


@pytest.mark.parametrize("transports", ["polling,websocket", "polling"])
async def test_polls_find_their_worker(
    start: Start, store_url: str, listen: Listen, transports: str
) -> None:
    """Clients of three workers connect by their default transports, and stay."""
    node = start(REDIS_URL=store_url, WEB_CONCURRENCY="3")
    async with node.client() as client:
        session = await create(client)
        sockets = await asyncio.gather(*(listen(node, transports) for _ in range(6)))
        for socket in sockets:
            assert (await socket.emit("join", {"channelId": session["sessionId"]}))["success"]
        message = {"channelId": session["sessionId"], "message": "x" * 4000}
        assert (await sockets[0].emit("message", {"type": 2, "payload": message}))["success"]
        for socket in sockets:
            (message,) = await socket.next("messageBroadcast")
            assert message["text"] == "x" * 4000
    assert [line for line in node.log if line["logger"].startswith("session_service.web")] == []


async def test_a_connection_changes_hands_often(start: Start, store_url: str) -> None:
    """A connection with the polls of many clients moves between workers without loss."""
    node = start(REDIS_URL=store_url, WEB_CONCURRENCY="2")
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    for n in range(300):
        path = f"/socket.io/?EIO=4&transport=polling&sid={n % 2}.unknown"
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Request-ID: {n}\r\nContent-Length: 1"
        writer.write(f"{head}\r\n\r\n3".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 400 ")
        assert f"X-Request-ID: {n}\r\n" in head
        await reader.readexactly(int(head.partition("Content-Length: ")[2].partition("\r")[0]))
    writer.close()
    await writer.wait_closed()


async def test_a_worker_that_dies_takes_its_sockets_along(
    start: Start, store_url: str, listen: Listen
) -> None:
    """The clients of a dead worker reconnect to any other."""
    node = start(REDIS_URL=store_url, WEB_CONCURRENCY="2")
    sockets = await asyncio.gather(*(listen(node, "polling") for _ in range(4)))
    for line in node.log:
        if line["event"] == "worker started":
            os.kill(line["worker"], signal.SIGKILL)
    async with node.client() as client:
        session = await create(client)
    for socket in sockets:
        await socket.next("connect")
        assert (await socket.emit("join", {"channelId": session["sessionId"]}))["success"]


@pytest.mark.parametrize("transports", ["websocket", "polling", "polling,websocket"])
async def test_the_published_client_connects_with_a_credential(
    start: Start, store_url: str, listen: Listen, tmp_path: Path, transports: str
) -> None:
    """A key and a session token are accepted by each worker, until the key is revoked."""
    settings = {"REDIS_URL": store_url, "AUTH": "on", "SESSION_TOKEN_SECRET": "s" * 32}
    scopes = "sessions:write,events:read,messages:read,messages:write"
    key = run(tmp_path, "keys", "create", "pages", "--scopes", scopes, **settings).stdout.strip()
    node = start(**settings, WEB_CONCURRENCY="2")
    async with node.client() as client:
        client.headers["X-API-KEY"] = key
        session_id = (await create(client))["sessionId"]
        body = {"scopes": ["events:read", "messages:read"], "expiresInMinutes": 5}
        async with client.post(f"{SESSIONS}/{session_id}/tokens", json=body) as response:
            token = (await response.json())["token"]
        auths = [{"apiKey": key}, {"token": token}] * 2
        sockets = await asyncio.gather(*(listen(node, transports, auth) for auth in auths))
        for socket in sockets:
            assert (await socket.emit("join", {"channelId": session_id}))["success"]
        message = {"channelId": session_id, "message": "Hello"}
        assert (await sockets[0].emit("2", message))["success"]
        refused = await sockets[1].emit("2", message)
        assert refused["error"]["code"] == "FORBIDDEN"
        for socket in sockets:
            assert (await socket.next("messageBroadcast"))[0]["text"] == "Hello"
        assert run(tmp_path, "keys", "revoke", key.split("_")[1], **settings).returncode == 0
        async with asyncio.timeout(ENDS_SECONDS):
            for socket in sockets:
                assert await socket.next("credential-expired") == [{}]
                assert await socket.next("disconnect") == ["io server disconnect"]
        for auth in (None, *auths[:2]):
            late = await listen(node, transports, auth, "connect_error")
            text, error = late.first
            assert error["error"]["code"] == "UNAUTHORIZED"
            assert error["error"]["message"] == text
    for secret in (key, token):
        assert secret not in node.stderr
