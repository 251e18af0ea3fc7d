"""Responses as bytes, and the headers that the application adds."""

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from session_service.web.http.response import BytesResponse, JsonResponse, TextResponse


class Page(BytesResponse):
    """A response of a type that no route has yet."""

    __slots__ = ()

    content_type = "text/html; charset=utf-8"


class Connection:
    """A connection that records the written bytes: aiohttp's protocol and its transport."""

    peername = sockname = ssl_context = None
    writing_paused = False

    def __init__(self) -> None:
        self.transport: Connection | None = self
        self.written = b""

    def get_extra_info(self, name: str) -> None:
        """Return None for any ``name``."""

    def write(self, data: bytes) -> None:
        self.written += data


def request_of(method: str = "GET") -> web.BaseRequest:
    connection: Any = Connection()
    return make_mocked_request(method, "/", transport=connection, protocol=connection)


async def written(
    response: BytesResponse, request: web.BaseRequest, **options: Any
) -> tuple[list[str], bytes]:
    """Write a response as aiohttp's protocol does; return its head and its body."""
    response.start(request, "request-1", **options)
    await response.prepare(request)
    await response.write_eof()
    connection: Any = request.protocol
    head, _, body = connection.written.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), body


@pytest.mark.parametrize(
    ("response", "content_type"),
    [
        (JsonResponse(200, b"{}"), "application/json"),
        (TextResponse(200, b"{}"), "text/plain; charset=UTF-8"),
        (Page(200, b"{}"), "text/html; charset=utf-8"),
    ],
)
async def test_a_response_has_its_type(response: BytesResponse, content_type: str) -> None:
    """A response has its type, its length, its request id and the common headers."""
    head, body = await written(response, request_of())
    assert head[0] == "HTTP/1.1 200 OK"
    assert {f"Content-Type: {content_type}", "Content-Length: 2", "X-Request-ID: request-1"} <= {
        *head
    }
    assert {"Cache-Control: no-store", "X-Content-Type-Options: nosniff"} <= {*head}
    assert body == b"{}"


async def test_fields_of_the_request_and_of_the_response_are_written() -> None:
    """Headers of the request and of the response are written in whole lines."""
    response = JsonResponse(201, b"{}", (("Location", "sessions/1"),))
    head, _ = await written(response, request_of(), request_fields="Vary: Origin\r\n")
    assert {"Vary: Origin", "Location: sessions/1"} <= {*head}


async def test_a_response_to_head_has_no_body() -> None:
    """A response to HEAD has the length of the body without the body."""
    head, body = await written(JsonResponse(200, b"{}"), request_of("HEAD"))
    assert "Content-Length: 2" in head
    assert body == b""


async def test_a_response_without_content_has_neither_type_nor_length() -> None:
    """A response without content, such as to a preflight, has no type and no length."""
    head, _ = await written(JsonResponse(204, b""), request_of("OPTIONS"))
    assert not [line for line in head if line.startswith(("Content-Type", "Content-Length"))]


@pytest.mark.parametrize("close", [True, False])
async def test_the_application_may_close_the_connection(close: bool) -> None:
    """If the application closes the connection, client and aiohttp both learn it."""
    response = JsonResponse(200, b"{}")
    head, _ = await written(response, request_of(), close=close)
    assert ("Connection: close" in head) == close
    assert response.keep_alive != close


async def test_a_client_that_has_gone_is_an_error() -> None:
    """A response to a client that disconnected raises ConnectionResetError, as aiohttp's do."""
    request = request_of()
    request.protocol.transport = None
    response = JsonResponse(200, b"{}")
    response.start(request, "request-1")
    with pytest.raises(ConnectionResetError):
        await response.write()
