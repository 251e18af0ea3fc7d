"""Fixtures of the suites that speak HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from session_service.client import SessionService
from tests.support.api import Client
from tests.support.console import Console
from tests.support.sockets import Connect, Socket


@pytest.fixture
async def connect(client: Client) -> AsyncIterator[Connect]:
    """Open Socket.IO connections, which are closed after the test."""
    opened = []

    async def connect(transport: str = "websocket", **options: Any) -> Socket:
        socket = Socket()
        url = f"http://127.0.0.1:{client.port}"
        await socket.client.connect(url, transports=[transport], wait_timeout=10, **options)
        opened.append(socket)
        return socket

    yield connect
    for each in opened:
        await each.client.disconnect()


@pytest.fixture
async def caller(client: Client) -> AsyncIterator[SessionService]:
    """A Python client of the service."""
    async with SessionService(f"http://127.0.0.1:{client.port}") as caller:
        yield caller


@pytest.fixture
def console(client: Client, capsys: pytest.CaptureFixture[str]) -> Console:
    """Run commands of the program against the service."""
    return Console(client.port, capsys)
