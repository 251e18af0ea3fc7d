"""Raw connections, for clients that send half a request or do not read."""

import asyncio
import socket
from types import TracebackType
from typing import Self

from tests.support.api import SESSIONS

GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF = (
    f"POST {SESSIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    'Content-Length: 200000\r\n\r\n{"agentId": '
).encode()  # a request with a part of its body


class Raw:
    """A connection to 127.0.0.1; ``async with await Raw.to(port) as raw`` closes it at the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int, *, buffer: int | None = None) -> Self:
        """Connect; ``buffer`` limits the receive buffers of the kernel and the reader, in bytes."""
        connection = socket.socket()
        if buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        return cls(*await asyncio.open_connection(sock=connection, limit=buffer or 65_536))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    def abort(self) -> None:
        """Close the connection at once, without sending pending data."""
        self._writer.transport.abort()

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def get(self, path: str) -> tuple[int, bytes, bytes]:
        """Send a GET; return the status, the head and the body of the response."""
        self.send(GET % path.encode())
        return await self.read_response()

    async def read_response(self) -> tuple[int, bytes, bytes]:
        """Read a response with a Content-Length; return its status, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        return int(head[9:12]), head, await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """Read until the service closes or resets the connection."""
        data = b""
        try:
            while more := await self.reader.read(65_536):
                data += more
        except ConnectionError:
            pass
        return data

    async def expect_reset(self) -> None:
        """Read until the service resets the connection; fail if it closes it in order."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            return
        raise AssertionError("the connection was closed in order")

    @property
    def is_closed(self) -> bool:
        """Whether the end of the connection has been seen."""
        return self.reader.at_eof() or self.reader.exception() is not None
