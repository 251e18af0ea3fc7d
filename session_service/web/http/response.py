"""Answers, written as bytes.

aiohttp's own ``Response`` builds its headers in a multidict and serialises them for every answer,
which takes longer than all else the service does for it. Here what seldom changes is written once,
and the rest is put behind it. aiohttp's protocol asks of an answer just what ``Answer`` has.
"""

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import msgspec
from aiohttp import web

REQUEST_ID_HEADER = "X-Request-ID"

_NO_CONTENT = 204

encode = msgspec.json.Encoder().encode


class Answer:
    """A JSON body with its status, and headers beyond those that every answer has."""

    __slots__ = (
        "_request",
        "body",
        "browser_fields",
        "headers",
        "keep_alive",
        "request_id",
        "status",
    )

    def __init__(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.request_id = ""
        self.browser_fields = ""  # header lines, see BrowserPolicy.fields
        self.keep_alive: bool | None = None  # None: as the request wants it
        self._request: web.BaseRequest | None = None

    async def prepare(self, request: web.BaseRequest) -> None:
        """Take the request that is answered."""
        self._request = request
        if self.keep_alive is None:
            self.keep_alive = request.keep_alive

    async def write_eof(self) -> None:
        """Write the answer, and wait until it has left; a client that does not read is cut off."""
        request = self._request
        if request is None or request.transport is None:
            raise ConnectionResetError
        request.transport.write(
            self.packed(is_http_1_0=request.version.minor == 0, is_head=request.method == "HEAD")
        )
        if request.protocol.writing_paused:
            self.body = b""  # the transport has it, too
            await request.writer.drain()

    def packed(self, *, is_http_1_0: bool = False, is_head: bool = False) -> bytes:
        """Write the answer as bytes."""
        body = self.body
        length = f"Content-Length: {len(body)}\r\n" if self.status != _NO_CONTENT else ""
        head = f"{length}{REQUEST_ID_HEADER}: {self.request_id}\r\n{self.browser_fields}"
        for name, value in self.headers:
            head += f"{name}: {value}\r\n"
        if not self.keep_alive:
            head += "Connection: close\r\n"
        elif is_http_1_0:
            head += "Connection: keep-alive\r\n"
        start = start_of(self.status, int(time.time()))
        return b"".join((start, head.encode("latin-1"), b"\r\n", b"" if is_head else body))


@lru_cache(maxsize=64)
def start_of(
    status: int, second: int, content_type: str = "application/json", caching: str = "no-store"
) -> bytes:
    """Write the status and the headers that an answer shares with others of its second.

    A cache must not keep any of them: a session that has ended would live on in it.
    """
    phrase = HTTPStatus(status).phrase
    kind = f"Content-Type: {content_type}\r\n" if status != _NO_CONTENT else ""
    return (
        f"HTTP/1.1 {status} {phrase}\r\n{kind}"
        f"Cache-Control: {caching}\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        f"Date: {formatdate(second, usegmt=True)}\r\n"
    ).encode("latin-1")
