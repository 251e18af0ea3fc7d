"""Refusals are logged at most once a second, with their count."""

import asyncio
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from session_service.composition import open_store
from session_service.web import server
from session_service.web.http import protocol
from session_service.web.http.state import AppState
from tests.support.api import SESSIONS, Client, assert_error, send_raw
from tests.support.factories import store_settings
from tests.support.raw import GET, Raw
from tests.support.service import ServiceUnderTest, app_state
from tests.support.sse import EVENTS
from tests.support.waiting import wait_until

SECONDS = 0.3  # in place of 1


@pytest.fixture
def store_url() -> str:
    return "memory://"  # these tests do not depend on the store


@pytest.fixture(autouse=True)
def brief_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_service.logs._THROTTLE_SECONDS", SECONDS)


async def assert_logged(
    caplog: pytest.LogCaptureFixture, start: str, count: int, since: float
) -> None:
    """Wait until the counts of lines with this text add up; check that they are few."""

    def counts() -> list[int]:
        found = [each for each in caplog.records if re.match(start, each.message)]
        return [int(vars(each)["count"]) for each in found]

    await wait_until(lambda: sum(counts()) >= count)
    took = asyncio.get_running_loop().time() - since
    assert sum(counts()) == count
    assert len(counts()) <= took / SECONDS + 1


async def test_an_overload(
    service: AppState, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests that are refused because too many are in flight are logged together."""
    for _ in range(2000):
        service.admission.request_begins()
    since = asyncio.get_running_loop().time()
    for _ in range(100):
        await assert_error(await client.get(SESSIONS), 503, "OVERLOADED")
    await assert_logged(caplog, "requests refused", 100, since)


async def test_the_limit_of_connections(
    service: AppState,
    aiohttp_client: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Connections that replace another, or are served probes only, are logged together."""
    monkeypatch.setattr(server, "GRACE_SECONDS", 0)
    client = await aiohttp_client(ServiceUnderTest(service, 2))
    since = asyncio.get_running_loop().time()
    async with AsyncExitStack() as stack:
        for n in range(22):
            raw = await stack.enter_async_context(await Raw.to(client.port))
            if n == 0:
                raw.send(GET % EVENTS.encode())
                await raw.reader.readuntil(b"position\ndata: {}\n\n")
        await assert_logged(caplog, "connections closed", 20, since)


async def test_bytes_that_are_not_http(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Requests that cannot be read are logged together, without their text."""
    caplog.set_level("INFO")
    since = asyncio.get_running_loop().time()
    for _ in range(20):
        assert (await send_raw(client, "GET secret\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    await assert_logged(caplog, "requests refused: they are not valid HTTP", 20, since)
    assert "secret" not in caplog.text


async def test_heads_that_do_not_arrive(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections whose request does not arrive in time are logged together."""
    caplog.set_level("INFO")
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    since = asyncio.get_running_loop().time()
    async with AsyncExitStack() as stack:
        for _ in range(3):
            raw = await stack.enter_async_context(await Raw.to(client.port or 0))
            raw.send(b"GET / HTTP/1.1\r\nHost: ")
        await assert_logged(caplog, "requests refused: their head came too late", 3, since)


async def test_a_store_that_is_away(
    aiohttp_client: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The log line has the reason, which the response has not."""
    async with open_store(store_settings("redis://127.0.0.1:1/0", store_timeout=1)) as store:
        client: Client = await aiohttp_client(ServiceUnderTest(app_state(store)))
        since = asyncio.get_running_loop().time()
        for _ in range(100):
            await assert_error(await client.get(SESSIONS), 503, "STORE_UNAVAILABLE")
        await assert_logged(caplog, "store unavailable", 100, since)
    (line, *_) = [each for each in caplog.records if each.message == "store unavailable"]
    assert "cannot connect" in vars(line)["reason"]
