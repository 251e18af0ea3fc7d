"""nginx and haproxy with several nodes, with HTTP/2, and for longer than their timeouts."""

import asyncio
import shutil
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import socketio
from aiohttp import ClientSession
from playwright.async_api import async_playwright

from chaos.stores.server import free_port
from tests.support.api import SESSIONS, create
from tests.support.processes import ServiceProcess, Start
from tests.support.proxies import PROXIES, Proxy, proxy
from tests.support.sse import follow
from tests.support.tls import NAME, Certificate
from tests.support.tools import need
from tests.support.waiting import wait_until

QUIET_SECONDS = 70  # longer than the timeouts of both proxies, 60 s

Node = Callable[..., ServiceProcess]


@pytest.fixture
def node(start: Start, store_url: str) -> Node:
    """Start a node on the store that all share, unless a setting has another one."""

    def node(**settings: str) -> ServiceProcess:
        return start(**{"REDIS_URL": store_url, "ALLOWED_HOSTS": NAME, **settings})

    return node


class Room:
    """A Socket.IO client in the room of a session."""

    def __init__(self, client: ClientSession) -> None:
        self.socket = socketio.AsyncClient(http_session=client, reconnection=False)
        self.received: list[Any] = []
        self.socket.on("messageBroadcast", self.received.append)

    async def join(self, url: str, transport: str, session_id: str) -> None:
        await self.socket.connect(url, headers={"Origin": url}, transports=[transport])
        await self.socket.call("join", {"channelId": session_id})


async def join(stack: AsyncExitStack, public: Proxy, transport: str, session_id: str) -> Room:
    """Join a session until the stack is left."""
    room = Room(await stack.enter_async_context(public.client()))
    await room.join(public.url, transport, session_id)
    stack.push_async_callback(room.socket.disconnect)
    return room


async def send(client: ClientSession, session_id: str) -> None:
    """Send a message of the user."""
    path = f"{SESSIONS}/{session_id}/messages"
    async with client.post(path, json={"content": "Still there?"}) as response:
        assert response.status == 201


async def test_quiet_connections_last(node: Node, certificate: Certificate, tmp_path: Path) -> None:
    """A stream, a polling and a WebSocket client are served after a minute without events."""
    service = node()

    async def check(kind: str) -> None:
        async with AsyncExitStack() as stack:
            running = proxy(kind, tmp_path / kind, certificate, service.port)
            public = stack.enter_context(running)
            client = await stack.enter_async_context(public.client())
            session_id = (await create(client))["sessionId"]
            stream = await follow(client, f"{SESSIONS}/{session_id}/events")
            rooms = [
                await join(stack, public, transport, session_id)
                for transport in ("polling", "websocket")
            ]
            await asyncio.sleep(QUIET_SECONDS)
            await send(client, session_id)
            names = [""]
            while names[-1] != "session.message":  # a renewal may come first
                names += [event.name for event in await stream.take(1)]
            await wait_until(lambda: all(room.received for room in rooms))

    await asyncio.gather(*map(check, PROXIES))


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("kind", PROXIES)
async def test_a_rolling_restart_fails_no_request(
    node: Node, certificate: Certificate, tmp_path: Path, kind: str, workers: str
) -> None:
    """While one node after the other is replaced, every request is answered."""
    ports = [free_port(), free_port()]
    nodes = [node(PORT=str(port), WEB_CONCURRENCY=workers) for port in ports]
    assert [each.port for each in nodes] == ports
    statuses: list[int] = []
    with proxy(kind, tmp_path / kind, certificate, *ports) as public:
        async with public.client() as client:
            path = f"{SESSIONS}/{(await create(client))['sessionId']}/heartbeat"

            async def ask() -> None:
                while True:
                    client.cookie_jar.clear()  # as many clients, which any node may serve
                    async with client.post(path) as response:
                        statuses.append(response.status)
                    await asyncio.sleep(0.002)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask()) for _ in range(16)]
                for old, port in zip(nodes, ports, strict=True):
                    await asyncio.to_thread(stop, old)
                    new = node(PORT=str(port), WEB_CONCURRENCY=workers)
                    await wait_until(lambda new=new: served(new), 30, every=0.1)  # type: ignore[misc]
                for task in tasks:
                    task.cancel()
    assert len(statuses) > 200
    assert set(statuses) == {200}


def stop(service: ServiceProcess) -> None:
    service.signal(signal.SIGTERM)
    assert service.wait() == 0


async def served(service: ServiceProcess) -> bool:
    """Return whether a service has answered heartbeats: the proxy has found it."""
    if "\n" not in service.stdout:
        return False
    async with service.client() as client, client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    name = "http_server_request_duration_seconds_count"
    counts = [line.split()[-1] for line in lines if line.startswith(name) and "heartbeat" in line]
    return sum(map(float, counts)) > 10


async def test_haproxy_leaves_out_a_node_without_its_store(
    node: Node, certificate: Certificate, tmp_path: Path
) -> None:
    """No request reaches a node that is not ready, because its store is away."""
    away = node(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    ports = [away.port, node().port]
    with proxy("haproxy", tmp_path / "haproxy", certificate, *ports) as public:
        async with public.client() as client:

            async def is_left_out() -> bool:
                return {await status(client) for _ in range(20)} == {200}

            await wait_until(is_left_out, every=0.5)


async def status(client: ClientSession) -> int:
    async with client.get(SESSIONS) as response:
        return response.status


async def test_haproxy_keeps_polling_clients_on_their_node(
    node: Node, certificate: Certificate, tmp_path: Path
) -> None:
    """Socket.IO clients that poll work with several nodes, and receive each other's messages."""
    ports = [node().port, node().port]
    with proxy("haproxy", tmp_path / "haproxy", certificate, *ports) as public:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(public.client())
            session_id = (await create(client))["sessionId"]
            rooms = [await join(stack, public, "polling", session_id) for _ in range(4)]
            await send(client, session_id)
            await wait_until(lambda: all(room.received for room in rooms))


IN_A_PAGE = """async ([url, count]) => {
    let opened = 0, events = 0
    for (let n = 0; n < count; n++) {
        const stream = new EventSource(`${url}/events`)
        stream.onopen = () => opened++
        stream.addEventListener('session.message', () => events++)
    }
    const socket = new WebSocket(`wss://${location.host}/socket.io/?EIO=4&transport=websocket`)
    const handshake = await new Promise(resolve => {
        socket.onmessage = message => resolve(message.data)
        socket.onerror = () => resolve('error')
    })
    const until = async reached => {
        for (let n = 0; n < 200 && !reached(); n++) await new Promise(r => setTimeout(r, 50))
    }
    await until(() => opened === count)
    const response = await fetch(`${url}/messages`, {
        method: 'POST',
        headers: {'Content-Type': 'application/json'},
        body: JSON.stringify({content: 'Hello'}),
    })
    await until(() => events === count)
    const entries = performance.getEntriesByType('resource')
    const protocols = [...new Set(entries.map(entry => entry.nextHopProtocol))]
    return {status: response.status, events, handshake, protocols}
}"""


@pytest.mark.parametrize("kind", PROXIES)
async def test_a_page_uses_http_2(
    node: Node, certificate: Certificate, tmp_path: Path, kind: str
) -> None:
    """A page in Chromium has eight streams, more than HTTP/1.1 gives it, a socket, and requests."""
    need("chromium")
    service = node()
    with proxy(kind, tmp_path / kind, certificate, service.port) as public:
        async with public.client() as client, async_playwright() as playwright:
            session_id = (await create(client))["sessionId"]
            browser = await playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=[
                    f"--host-resolver-rules=MAP {NAME} 127.0.0.1",
                    "--ignore-certificate-errors",  # it does not know the test's own authority
                    "--no-sandbox",  # which root may not have
                ],
            )
            page = await browser.new_page()
            await page.goto(f"{public.url}/healthz")
            found = await page.evaluate(IN_A_PAGE, [f"{SESSIONS}/{session_id}", 8])
            await browser.close()
    assert found["handshake"].startswith('0{"sid":')
    assert (found["status"], found["events"], found["protocols"]) == (201, 8, ["h2"])
