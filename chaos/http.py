"""A client of one connection that tells an answer from none, and whose answer it is."""

import asyncio
import json
import socket
import struct
from typing import Any, NamedTuple, cast


class Unanswered(Exception):
    """The request was sent, and the connection ended before an answer came."""


class NotSent(Exception):
    """There was no connection to send the request on."""


class Answer(NamedTuple):
    """An answer as it came."""

    status: int
    headers: dict[str, str]  # names in lower case
    content: bytes

    @property
    def body(self) -> Any:
        """What the content says."""
        return json.loads(self.content)


def request(method: str, path: str, request_id: str, body: Any = None) -> bytes:
    """Write a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: {request_id}\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    content = json.dumps(body, separators=(",", ":")).encode()
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Connection(asyncio.Protocol):
    """One connection, one request at a time unless ``send`` is used by itself."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: list[asyncio.Future[Answer]] = []
        self._transport: asyncio.Transport | None = None
        self.is_open = False

    @classmethod
    async def to(cls, port: int) -> "Connection":
        """Connect; raises NotSent."""
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(cls, "127.0.0.1", port)
        except OSError as error:
            raise NotSent from error
        return connection

    async def ask(self, data: bytes) -> Answer:
        """Send a request and wait for its answer; raises Unanswered, NotSent."""
        return await self.send(data)

    def send(self, data: bytes) -> "asyncio.Future[Answer]":
        """Send a request; answers come in the order of the requests. Raises NotSent."""
        if not self.is_open or self._transport is None:
            raise NotSent
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._transport.write(data)
        return answer

    def send_more(self, data: bytes) -> None:
        """Send the rest of a request whose first part went by ``send``."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close it as a client does that is done."""
        if self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """Close it in the middle of whatever goes on, with a reset."""
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
            answer = self._waiting.pop(0)
            if not answer.done():
                answer.set_result(Answer(int(first[9:12]), headers, rest[:length]))
            if headers.get("connection") == "close":
                self.is_open = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.is_open = False
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            if not answer.done():
                answer.set_exception(Unanswered())
