"""An HTTP client on one connection, which distinguishes "not sent" from "not answered".

A request that was not sent did not happen, and one that was sent and not answered may have.
"""

import asyncio
import json
import socket
import struct
from typing import Any, NamedTuple, cast


class Unanswered(Exception):
    """The request was sent, and the connection ended before a response came."""


class NotSent(Exception):
    """There was no connection to send the request on."""


class Response(NamedTuple):
    """A response as received."""

    status: int
    headers: dict[str, str]  # by names in lower case
    content: bytes

    @property
    def body(self) -> Any:
        """The content, decoded from JSON."""
        return json.loads(self.content)


def request(method: str, path: str, request_id: str, body: Any = None) -> bytes:
    """Encode a request, with an ``X-Request-ID`` and, unless it is None, a JSON body."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: {request_id}\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    content = json.dumps(body, separators=(",", ":")).encode()
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Connection(asyncio.Protocol):
    """One connection; ``fetch`` sends one request at a time, ``send`` pipelines."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: list[asyncio.Future[Response]] = []
        self._transport: asyncio.Transport | None = None
        self.is_open = False

    @classmethod
    async def to(cls, port: int) -> "Connection":
        """Connect to a port of 127.0.0.1; raise NotSent if it refuses."""
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(cls, "127.0.0.1", port)
        except OSError as error:
            raise NotSent from error
        return connection

    async def fetch(self, data: bytes) -> Response:
        """Send a request and return its response; raise Unanswered or NotSent."""
        return await self.send(data)

    def send(self, data: bytes) -> "asyncio.Future[Response]":
        """Send a request; responses come in the order of the requests. Raise NotSent."""
        if not self.is_open or self._transport is None:
            raise NotSent
        response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting.append(response)
        self._transport.write(data)
        return response

    def send_more(self, data: bytes) -> None:
        """Send the rest of a request whose first part went by ``send``."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection in order."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Reset the connection, in the middle of a request or response."""
        if self._transport is not None and not self._transport.is_closing():
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._waiting:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            response = self._waiting.pop(0)
            if not response.done():
                response.set_result(Response(int(first[9:12]), headers, rest[:length]))
            if headers.get("connection") == "close":
                self.is_open = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.is_open = False
        waiting, self._waiting = self._waiting, []
        for response in waiting:
            if not response.done():
                response.set_exception(Unanswered())
