"""The API from a client's side, for the suites that speak HTTP."""

import asyncio
from typing import Any

from aiohttp import ClientResponse, ClientSession
from aiohttp.test_utils import TestClient

from tests.support.factories import session_body

Client = TestClient[Any, Any]

SESSIONS = "/api/messaging/sessions"


async def post(client: Client | ClientSession, path: str, body: Any = None) -> dict[str, Any]:
    """Make a request that succeeds; its body."""
    async with client.post(path, json=body) as answer:
        assert answer.status in (200, 201), await answer.text()
        result: dict[str, Any] = await answer.json()
        return result


async def create(client: Client | ClientSession, **fields: Any) -> dict[str, Any]:
    """Create a session, of a new user and agent unless told otherwise; the body of the 201."""
    body = session_body(**fields)
    answer = await client.post(SESSIONS, json=body)
    assert answer.status == 201, await answer.text()
    session: dict[str, Any] = await answer.json()
    return session


async def assert_error(answer: ClientResponse, status: int, code: str) -> dict[str, str]:
    """Check that an answer is an error in the one shape (contract, "One error shape")."""
    body = await answer.json()
    assert (answer.status, body["error"]["code"]) == (status, code), body
    assert body["success"] is False
    assert set(body) == {"success", "error"}
    error: dict[str, str] = body["error"]
    assert set(error) == {"code", "message", "details"}
    assert all(isinstance(text, str) for text in error.values())
    assert "X-Request-ID" in answer.headers
    return error


async def spoken(client: Client, text: str, body: bytes = b"") -> bytes:
    """Send text and a body on a connection of its own; all that comes back."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(text.encode() + body)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()
