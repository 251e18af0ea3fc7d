"""Streams with published clients and compressing proxies."""

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from chaos.stores.server import StoreServer
from tests.support.api import SESSIONS
from tests.support.factories import session_body
from tests.support.npm import JS, installed
from tests.support.processes import ServiceProcess, Start
from tests.support.sse import EVENTS, follow
from tests.support.waiting import wait_until

Run = Callable[..., AbstractAsyncContextManager[Process]]


@pytest.fixture
def run(pytestconfig: pytest.Config) -> Run:
    """Run a script in Node for the block."""
    folder = installed(pytestconfig, "streams")

    @asynccontextmanager
    async def run(script: str, *arguments: str) -> AsyncIterator[Process]:
        process = await asyncio.create_subprocess_exec(
            "node", str(JS / script), str(folder), *arguments, stdout=PIPE
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    return run


async def next_line(process: Process) -> list[Any]:
    """Return the next line that a script printed."""
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    assert line, "the script has ended"
    found = json.loads(line)
    return found if isinstance(found, list) else [found]


async def next_named(process: Process, name: str) -> list[Any]:
    """Return the next line with a name; fail if the client gave up."""
    while True:
        line = await next_line(process)
        assert line not in (["error", True], ["end"]), line
        assert line[0] != "failed", line
        if line[0] == name:
            return line


async def create(service: ServiceProcess) -> str:
    """Create a session; retry while the store is unavailable."""
    body = session_body()

    async def created() -> Any:
        async with client.post(SESSIONS, json=body) as response:
            assert response.status in (201, 503)
            return (await response.json()).get("sessionId")

    async with service.client() as client:
        return str(await wait_until(created, 20, every=0.05))


async def test_an_event_source_survives_a_store_outage(
    tmp_path: Path, start: Start, run: Run
) -> None:
    """An EventSource reconnects until the store is back, and then receives events."""
    store = StoreServer(tmp_path / "store", "appendonly yes")
    service = start(REDIS_URL=f"redis://{store.address}/0", SESSION_STORE_TIMEOUT_SECONDS="0.5")
    try:
        url = f"http://127.0.0.1:{service.port}{EVENTS}"
        async with run("follow.mjs", "eventsource", url) as client:
            for _ in range(2):
                assert await next_named(client, "open") == ["open"]
                assert await next_named(client, "error") == ["error", False]
            await store.start()
            while await next_named(client, "open"):
                if await next_line(client) == ["position", {}] and await _stays(client):
                    break
            session_id = await create(service)
            _, event = await next_named(client, "session.created")
            assert event["subject"] == session_id
            store.kill()
            await store.start()
            session_id = await create(service)
            while (await next_named(client, "session.created"))[1]["subject"] != session_id:
                pass
    finally:
        await store.close()


async def _stays(client: Process) -> bool:
    """Return whether the stream is still open after half a second."""
    try:
        return await asyncio.wait_for(next_line(client), 0.5) != ["error", False]
    except TimeoutError:
        return True


async def test_fetch_event_source_can_parse_every_block(
    start: Start, store_url: str, run: Run
) -> None:
    """Every block has data, which users of fetch-event-source parse."""
    service = start(REDIS_URL=store_url)
    url = f"http://127.0.0.1:{service.port}{SESSIONS}/{await create(service)}/events"
    async with run("follow.mjs", "fetch-event-source", url) as client:
        assert await next_named(client, "position") == ["position", {}]
        async with ClientSession() as http, http.delete(url.removesuffix("/events")) as response:
            assert response.status == 200
        await next_named(client, "session.ended")
        assert await next_line(client) == ["end"]


async def test_a_proxy_that_compresses_holds_nothing_back(
    start: Start, store_url: str, run: Run
) -> None:
    """Events pass a compressing proxy at once, uncompressed."""
    service = start(REDIS_URL=store_url)
    async with run("compress.mjs", str(service.port)) as proxy:
        (port,) = await next_line(proxy)
        async with ClientSession(f"http://127.0.0.1:{port}") as client:
            source = await asyncio.wait_for(follow(client, EVENTS), 10)
            assert "Content-Encoding" not in source.response.headers
            session_id = await create(service)
            (event,) = await source.take(1)
            assert event.subject == session_id
            source.response.close()
