"""Unusual HTTP that clients, proxies and health checkers send."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from yarl import URL

from session_service.api.sessions import SessionInfo
from session_service.web.http.context import RequestContext
from session_service.web.http.response import JsonResponse, encode
from session_service.web.http.state import AppState
from session_service.web.rest.route import PUBLIC, Route, Tag
from session_service.web.rest.table import ROUTES
from tests.support.api import SESSIONS, Client, assert_error, create, send_raw
from tests.support.factories import ID
from tests.support.service import ServiceUnderTest
from tests.support.sse import EVENTS

JSON = {"Content-Type": "application/json"}
CLOSE = "Host: x\r\nConnection: close\r\n"


@pytest.fixture
def store_url() -> str:
    """One store, as these tests do not depend on it."""
    return "memory://"


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (f"POST {SESSIONS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked", 501, None),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked", 501, None),
        ("POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity, chunked", 501, None),
        ("GET /healthz HTTP/2.0\r\nHost: x", 505, None),
        ("GET /healthz HTTP/0.9", 505, None),
        ("GET /healthz HTTP/1.2\r\nHost: x", 505, None),
        ("GET /healthz HTTP/9.9\r\nHost: x", 505, None),
        ("GET /healthz HTTP/3\r\nHost: x", 505, None),
        ("PRI * HTTP/2.0\r\n\r\nSM", 505, None),
        (f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked", 501, None),
        (f"GET {EVENTS} HTTP/2.0\r\nHost: x\r\nConnection: keep-alive", 505, None),
        (f"GET /{'x' * 8192} HTTP/1.1\r\nHost: x", 414, None),
        (f"GET /x?{'x' * 8192} HTTP/1.1\r\nHost: x", 414, None),
        (f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {'x' * 33_000}", 431, None),
        (f"GET / HTTP/1.1\r\nHost: x\r\n{'x' * 33_000}: x", 431, None),
        ("GET / HTTP/1.1\r\nHost: x" + "\r\nX: x" * 200, 431, None),
        ("GET / HTTP/1.1", 400, "BAD_REQUEST"),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y", 400, "BAD_REQUEST"),
        ("GET / HTTPS/1.1\r\nHost: x", 400, "BAD_REQUEST"),
    ],
    ids=lambda each: str(each)[:40],
)
async def test_a_request_that_is_not_taken_gets_its_own_status(
    client: Client, head: str, status: int, code: str | None
) -> None:
    """A refused request has its own status and the one shape, without the request's text."""
    codes = {
        414: "URI_TOO_LONG",
        431: "HEADERS_TOO_LARGE",
        501: "NOT_IMPLEMENTED",
        505: "HTTP_VERSION_NOT_SUPPORTED",
    }
    response = await send_raw(
        client, f"{head}\r\n\r\n0\r\n\r\n" if status == 501 else f"{head}\r\n\r\n"
    )
    first, _, told = response.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d " % status)
    error = json.loads(told)["error"]
    assert error["code"] == (code or codes[status])
    assert b"xxxx" not in response


@pytest.mark.parametrize("size", [8_000, 30_000])
async def test_headers_of_32_kib_are_taken(client: Client, size: int) -> None:
    """Headers of 32 KiB are accepted, in one cookie or in many."""
    for cookies in (f"Cookie: {'x' * size}\r\n", f"Cookie: {'x' * (size // 50 - 10)}\r\n" * 50):
        response = await send_raw(client, f"GET /healthz HTTP/1.1\r\n{CLOSE}{cookies}\r\n")
        assert response.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("in_one", [True, False])
@pytest.mark.parametrize("ends", [True, False])
async def test_all_fields_together_are_bounded(client: Client, *, in_one: bool, ends: bool) -> None:
    """Many headers that are each allowed are a 431 together, before the head has ended."""
    session = await create(client)
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"DELETE {SESSIONS}/{session['sessionId']} HTTP/1.1\r\nHost: x\r\n".encode())
    fields = [f"X-{n}: {'x' * 9000}\r\n".encode() for n in range(4)]
    for part in [b"".join(fields)] if in_one else fields:
        await writer.drain()
        await asyncio.sleep(0)
        writer.write(part)
    if ends:
        writer.write(b"\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    response = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert response.startswith(b"HTTP/1.1 431 ")
    assert response.count(b"HTTP/1.1") == 1
    assert (await client.get(f"{SESSIONS}/{session['sessionId']}")).status == 200


async def test_a_body_is_no_head(client: Client) -> None:
    """Bodies larger than a head may arrive in parts, one after the other on a connection."""
    session = await create(client)
    body = b'{"content": "x", "unknown": "' + b"x" * 200_000 + b'"}'
    for _ in range(3):
        response = await client.post(
            f"{SESSIONS}/{session['sessionId']}/messages", data=body, headers=JSON
        )
        assert response.status == 201


@pytest.mark.parametrize(
    ("path", "length"),
    [(SESSIONS, 9_000_000), ("/socket.io/?EIO=4&transport=polling&sid=x", 1_000_000)],
)
@pytest.mark.parametrize("expects", [True, False])
async def test_a_body_that_is_too_large_is_not_asked_for(
    client: Client, path: str, length: int, *, expects: bool
) -> None:
    """A declared length that is too large is a 413 at once, without 100 Continue."""
    expect = "Expect: 100-continue\r\n" if expects else ""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"{head}{expect}Content-Length: {length}\r\n\r\n".encode())
    response = await asyncio.wait_for(reader.readuntil(b"}}"), 10)
    writer.close()
    assert response.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close\r\n" in response


async def test_a_body_is_asked_for(client: Client) -> None:
    """A request with ``Expect: 100-continue`` gets 100 Continue."""
    body = json.dumps({"agentId": ID, "userId": ID})
    headers = {**JSON, "Expect": "100-continue"}
    assert (await client.post(SESSIONS, data=body, headers=headers)).status == 201


async def test_a_trailing_slash_is_ignored_after_an_id(client: Client) -> None:
    """A trailing slash is ignored after an id only, lest a missing id mean all sessions."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}"
    assert (await client.get(f"{url}/")).status == 200
    assert (await client.get(f"{url}/messages/")).status == 200
    assert (await client.post(f"{url}/renew/")).status == 200
    for method in ("GET", "POST", "DELETE"):
        for path in (f"{SESSIONS}/", f"{SESSIONS}//", f"{url}//", f"{url}/x/"):
            await assert_error(await client.request(method, path), 404, "NOT_FOUND")
    assert (await client.delete(f"{url}/")).status == 200


async def test_socket_io_needs_no_trailing_slash(client: Client) -> None:
    """The Socket.IO path works without its trailing slash, as some clients send it."""
    response = await client.get("/socket.io?EIO=4&transport=polling")
    assert (response.status, (await response.text())[:1]) == (200, "0")


async def test_json_may_have_a_byte_order_mark(client: Client) -> None:
    """JSON may start with a byte order mark, as some editors and .NET write it."""
    body = b"\xef\xbb\xbf" + json.dumps({"agentId": ID, "userId": ID}).encode()
    assert (await client.post(SESSIONS, data=body, headers=JSON)).status == 201


async def test_a_location_is_relative(client: Client) -> None:
    """A Location leads to the new session behind a proxy that adds a path prefix."""
    response = await client.post(SESSIONS, json={"agentId": ID, "userId": ID})
    session = await response.json()
    public = response.url.with_path(f"/chat{SESSIONS}")
    location = public.join(URL(response.headers["Location"]))
    assert location.path == f"/chat{SESSIONS}/{session['sessionId']}"


async def test_no_answer_is_cached_or_guessed(client: Client) -> None:
    """JSON and errors are no-store and nosniff; streams are no-transform as well."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}"
    for path in (url, SESSIONS, f"{url}/messages", "/healthz", "/openapi.json", "/nothing"):
        response = await client.get(path)
        assert response.headers.getall("Cache-Control") == ["no-store"]
        assert response.headers.getall("X-Content-Type-Options") == ["nosniff"]
    refused = await send_raw(client, "nonsense\r\n\r\n")
    assert b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n" in refused
    stream = await client.get(f"{url}/events")
    assert stream.headers.getall("Cache-Control") == ["no-store, no-transform"]
    stream.close()


async def test_a_path_may_have_two_ids(
    service: AppState, aiohttp_client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler gets both ids, in the order of the path and in lower case."""

    async def read_message(_: RequestContext, session_id: str, message_id: str) -> JsonResponse:
        """Read a message."""
        return JsonResponse(200, encode({"ids": [session_id, message_id]}))

    route = Route(
        method="GET",
        path=f"{SESSIONS}/{{sessionId}}/messages/{{messageId}}",
        handler=read_message,
        tag=Tag.MESSAGING,
        access=PUBLIC,
        response=SessionInfo,
        success="The message",
    )
    monkeypatch.setattr("session_service.web.rest.table.ROUTES", (*ROUTES, route))
    client = await aiohttp_client(ServiceUnderTest(service))
    response = await client.get(f"{SESSIONS}/{ID.upper()}/messages/Ab")
    assert await response.json() == {"ids": [ID, "ab"]}
    assert (await client.post(f"{SESSIONS}/{ID}/messages/ab")).headers["Allow"] == (
        "GET, HEAD, OPTIONS"
    )
    assert (await client.get(f"{SESSIONS}/{ID}/messages")).status == 404
