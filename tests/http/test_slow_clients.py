"""Clients that do not send their bodies, or do not read their responses."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from session_service.composition import Store
from session_service.domain.budgets import BODY_COST_BYTES
from session_service.web.http import admission, protocol, transfers
from session_service.web.http.state import AppState
from tests.support.api import Client, create
from tests.support.raw import GET, HALF, Raw
from tests.support.service import app_state
from tests.support.waiting import wait_until

IN_FLIGHT = 2
REST = f'"{uuid4()}", "userId": "{uuid4()}"}}'.ljust(200_000 - len('{"agentId": ')).encode()

Connect = Callable[..., Awaitable[Raw]]


@pytest.fixture
def store_url() -> str:
    return "memory://"  # these tests do not depend on the store


@pytest.fixture
def service(store: Store) -> AppState:
    return app_state(store, max_in_flight=IN_FLIGHT)


@pytest.fixture
async def connect(client: Client) -> AsyncIterator[Connect]:
    """Connect to the service."""
    assert client.port is not None
    port = client.port
    async with AsyncExitStack() as stack:

        async def connect(**options: Any) -> Raw:
            return await stack.enter_async_context(await Raw.to(port, **options))

        yield connect


class TestBodies:
    """A body that has not arrived."""

    async def test_it_is_not_in_flight(self, client: Client, connect: Connect) -> None:
        """More half-sent bodies than requests may be in flight block nobody."""
        halves = [await connect() for _ in range(5 * IN_FLIGHT)]
        for half in halves:
            half.send(HALF)
        for _ in range(3):
            await create(client)
        for half in halves:
            half.send(REST)
            status, _, body = await half.read_response()
            assert status == 201, body

    async def test_it_is_in_flight_when_it_has_arrived(
        self, service: AppState, connect: Connect
    ) -> None:
        """If too many others are in flight when the body is complete, the request has no effect."""
        half = await connect()
        half.send(HALF)
        await wait_until(
            lambda: not service.admission.is_idle and not service.admission.in_flight,
            description="a body is arriving, and no request is in flight",
        )
        for _ in range(IN_FLIGHT):
            service.admission.request_begins()
        half.send(REST)
        status, _, body = await half.read_response()
        assert (status, b"OVERLOADED" in body) == (503, True)

    async def test_it_has_to_come_at_a_rate(
        self, monkeypatch: pytest.MonkeyPatch, connect: Connect
    ) -> None:
        """A body that stalls is answered 408 long before the deadline of a whole body."""
        monkeypatch.setattr(transfers, "TICK_SECONDS", 0.02)
        monkeypatch.setattr(admission, "BODY_GRACE_SECONDS", 0.05)
        monkeypatch.setattr(admission, "BODY_SECONDS", 1000)
        half = await connect()
        half.send(HALF)
        status, head, body = await half.read_response()
        assert (status, b"Connection: close" in head) == (408, False)
        assert json.loads(body)["error"]["code"] == "REQUEST_TIMEOUT"
        assert await half.rest() == b""

    async def test_a_steady_one_is_taken(
        self, monkeypatch: pytest.MonkeyPatch, connect: Connect
    ) -> None:
        """A steady body is accepted in pieces of any size."""
        monkeypatch.setattr(transfers, "TICK_SECONDS", 0.01)
        monkeypatch.setattr(admission, "BODY_GRACE_SECONDS", 5)
        steady = await connect()
        steady.send(HALF)
        for n in range(0, len(REST), 2000):
            steady.send(REST[n : n + 2000])
            await asyncio.sleep(0)
        assert (await steady.read_response())[0] == 201

    async def test_the_oldest_makes_room(
        self, service: AppState, monkeypatch: pytest.MonkeyPatch, connect: Connect
    ) -> None:
        """If bodies together need too much memory, the oldest is refused."""
        bodies = transfers.Transfers(3 * BODY_COST_BYTES)  # two fit, with the data that has arrived
        service.admission.bodies = bodies
        monkeypatch.setattr(transfers, "TICK_SECONDS", 1000)
        halves = []
        for arrived in (1, 2, 2):
            halves.append(await connect())
            halves[-1].send(HALF)
            await wait_until(partial(has, bodies, arrived))
        assert (await halves[0].read_response())[0] == 408
        for half in halves[1:]:
            half.send(REST)
            assert (await half.read_response())[0] == 201


def has(found: transfers.Transfers, count: int) -> bool:
    return len(found) == count


class TestLostConnections:
    """Connections that end, while a body arrives or otherwise."""

    @pytest.mark.parametrize("sent", [b"", GET % b"/healthz", HALF])
    async def test_they_leave_no_garbage(
        self, service: AppState, connect: Connect, sent: bytes
    ) -> None:
        """Their memory is freed at once, as collecting it would delay other clients."""
        gc.collect()
        gc.disable()
        before = _connections()
        try:
            lost = await connect()
            lost.send(sent)
            await wait_until(lambda: _connections() - before, description="it is accepted")
            await wait_until(
                lambda: (sent == HALF) != service.admission.is_idle,
                description="the half-sent body counts",
            )
            new = _connections() - before
            lost.abort()
            await wait_until(lambda: not _connections() & new, description="it is freed")
        finally:
            gc.enable()


def _connections() -> set[int]:
    """Return the ids of the connection objects in memory, open or lost."""
    return {id(each) for each in gc.get_objects() if type(each) is protocol.HttpProtocol}


class TestResponses:
    """A response that is not read."""

    REQUESTS = GET % b"/openapi.json" * 30  # some megabytes of responses

    async def test_its_connection_is_reset(
        self, service: AppState, monkeypatch: pytest.MonkeyPatch, client: Client, connect: Connect
    ) -> None:
        """After a while without reading, the connection is reset and its memory freed."""
        monkeypatch.setattr(transfers, "TICK_SECONDS", 0.02)
        monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.2)
        raw = await connect(buffer=4096)
        raw.send(self.REQUESTS)
        await wait_until(lambda: len(service.admission.unread) == 1, description="one is unread")
        await wait_until(lambda: len(service.admission.unread) == 0, description="none is unread")
        await raw.expect_reset()
        await create(client)

    async def test_the_oldest_makes_room(
        self, service: AppState, monkeypatch: pytest.MonkeyPatch, connect: Connect
    ) -> None:
        """If responses together need too much memory, the oldest connection is reset."""
        monkeypatch.setattr(transfers, "TICK_SECONDS", 1000)
        service.admission.unread = transfers.Transfers(1)
        first, second = await connect(buffer=4096), await connect(buffer=4096)
        first.send(self.REQUESTS)
        await wait_until(lambda: len(service.admission.unread) == 1, description="one is unread")
        second.send(self.REQUESTS)
        await first.expect_reset()
        for _ in range(30):
            assert (await second.read_response())[0] == 200
        await wait_until(lambda: len(service.admission.unread) == 0, description="none is unread")

    async def test_a_page_that_is_read_slowly_is_whole(
        self, service: AppState, monkeypatch: pytest.MonkeyPatch, connect: Connect
    ) -> None:
        """A client that reads slowly but steadily gets the whole response."""
        monkeypatch.setattr(transfers, "TICK_SECONDS", 0.01)
        monkeypatch.setattr(protocol, "UNREAD_SECONDS", 5)
        raw = await connect(buffer=4096)
        raw.send(self.REQUESTS)
        await wait_until(lambda: len(service.admission.unread) == 1, description="one is unread")
        for _ in range(30):
            assert (await raw.read_response())[0] == 200
            await asyncio.sleep(0.01)  # the pace of a client that reads slowly
