"""Responses, written as bytes.

aiohttp's own ``Response`` builds its headers in a multidict and serialises them for every response,
which takes longer than all else the service does for it. Here the lines that seldom change are
written once, and the others are appended.
"""

import time
from collections.abc import Awaitable, Coroutine
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from aiohttp import web

REQUEST_ID_HEADER = "X-Request-ID"

_WITHOUT_BODY = (204, 304)

encode = msgspec.json.Encoder().encode


class Response(Protocol):
    """The response to one request: ``start`` binds it to the request, ``write`` sends it.

    ``keep_alive`` is true if the connection stays open afterwards. ``start`` sets it, and ``write``
    may clear it.
    """

    __slots__ = ()

    status: int
    content_type: str  # such as "application/json"
    keep_alive: bool

    def start(
        self,
        request: web.BaseRequest,
        request_id: str,
        request_fields: str = "",
        *,
        close: bool = False,
    ) -> None:
        """Bind the response to its request.

        ``request_fields`` are header lines that depend on the request, such as
        ``Vary: Origin\\r\\n`` (see ``BrowserPolicy.fields``). ``close`` closes the connection after
        the response, even if the client would keep it.
        """

    async def write(self) -> None:
        """Send the response; raises ConnectionResetError if the client has gone."""


class BaseResponse(Response):
    """A response with the two methods that aiohttp's protocol calls on it."""

    __slots__ = ("keep_alive", "request", "request_fields", "request_id")

    def start(
        self,
        request: web.BaseRequest,
        request_id: str,
        request_fields: str = "",
        *,
        close: bool = False,
    ) -> None:
        """Bind the response to its request."""
        self.request = request
        self.request_id = request_id
        self.request_fields = request_fields
        self.keep_alive = not close and request.keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing: the response has been started, and its head is sent with its body."""

    def write_eof(self) -> Awaitable[None]:
        """Send the response."""
        return self.write()


class BytesResponse(BaseResponse):
    """A response with a body in memory, and with header fields such as ``("Location", "…")``.

    A subclass has the content type. No cache may keep the response, unless its subclass says so.
    """

    __slots__ = ("body", "headers", "status")

    caching = "no-store"

    def __init__(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    def write(self) -> Coroutine[Any, Any, None]:
        """Send the response, and wait until the transport has room for another."""
        request = self.request
        data = self.packed(
            self.request_id,
            self.request_fields,
            keep_alive=self.keep_alive,
            is_http_1_0=request.version.minor == 0,
            is_head=request.method == "HEAD",
        )
        self.body = b""  # as much as PAGE_BYTES, which the transport may hold for a while
        return send(request, data)

    def packed(
        self,
        request_id: str,
        request_fields: str = "",
        *,
        keep_alive: bool = False,
        is_http_1_0: bool = False,
        is_head: bool = False,
    ) -> bytes:
        """Return the response as bytes; for HEAD without the body, but with its length."""
        body = self.body
        length = f"Content-Length: {len(body)}\r\n" if self.status not in _WITHOUT_BODY else ""
        head = f"{length}{REQUEST_ID_HEADER}: {request_id}\r\n{request_fields}"
        for name, value in self.headers:
            head += f"{name}: {value}\r\n"
        if not keep_alive:
            head += "Connection: close\r\n"
        elif is_http_1_0:
            head += "Connection: keep-alive\r\n"
        shared = shared_head(self.status, int(time.time()), self.content_type, self.caching)
        return b"".join((shared, head.encode("latin-1"), b"\r\n", b"" if is_head else body))


class JsonResponse(BytesResponse):
    """A response with a body of JSON.

    For example, ``JsonResponse(200, encode(SessionInfo.of(session)))``.
    """

    __slots__ = ()

    content_type = "application/json"


class TextResponse(BytesResponse):
    """A response with a body of plain text in UTF-8."""

    __slots__ = ()

    content_type = "text/plain; charset=UTF-8"


@lru_cache(maxsize=64)
def shared_head(status: int, second: int, content_type: str, caching: str = "no-store") -> bytes:
    """Return the status line and the fields that responses of the same second share.

    By default no cache may keep a response: a session that has ended would live on in it. E.g.::

        HTTP/1.1 200 OK
        Content-Type: application/json
        Cache-Control: no-store
        X-Content-Type-Options: nosniff
        Date: Thu, 15 Jan 2026 10:30:45 GMT
    """
    phrase = HTTPStatus(status).phrase
    kind = f"Content-Type: {content_type}\r\n" if status not in _WITHOUT_BODY else ""
    return (
        f"HTTP/1.1 {status} {phrase}\r\n{kind}"
        f"Cache-Control: {caching}\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        f"Date: {formatdate(second, usegmt=True)}\r\n"
    ).encode("latin-1")


async def send(request: web.BaseRequest, data: bytes) -> None:
    """Send bytes of a response, and wait until the transport has room for more.

    A client that does not read is cut off meanwhile. Raises ConnectionResetError if the client has
    gone.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    transport.write(data)
    del data  # a transport that is full has it, too
    if request.protocol.writing_paused:
        await request.writer.drain()
