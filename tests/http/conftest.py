"""Fixtures of the suites that speak HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api import Client
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
