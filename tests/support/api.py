"""Requests to the API that many tests make."""

import asyncio
from typing import Any

from aiohttp import ClientResponse, ClientSession
from aiohttp.test_utils import TestClient

from tests.support.factories import session_body

Client = TestClient[Any, Any]

SESSIONS = "/api/messaging/sessions"


async def post(client: Client | ClientSession, path: str, body: Any = None) -> dict[str, Any]:
    """Make a POST that has to succeed; return the body of the response."""
    async with client.post(path, json=body) as response:
        assert response.status in (200, 201), await response.text()
        result: dict[str, Any] = await response.json()
        return result


async def create(client: Client | ClientSession, **fields: Any) -> dict[str, Any]:
    """Create a session, by default of a new user and agent; return the body of the 201."""
    async with client.post(SESSIONS, json=session_body(**fields)) as response:
        assert response.status == 201, await response.text()
        session: dict[str, Any] = await response.json()
        return session


async def assert_error(response: ClientResponse, status: int, code: str) -> dict[str, str]:
    """Check that a response is an error in the one shape (contract, "One error shape")."""
    body = await response.json()
    assert (response.status, body["error"]["code"]) == (status, code), body
    assert body["success"] is False
    assert set(body) == {"success", "error"}
    error: dict[str, str] = body["error"]
    assert set(error) == {"code", "message", "details"}
    assert all(isinstance(text, str) for text in error.values())
    assert "X-Request-ID" in response.headers
    return error


async def send_raw(client: Client, text: str, body: bytes = b"") -> bytes:
    """Send text and a body on a new connection; return everything that comes back within 10 s."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(text.encode() + body)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()
