"""The connections of a process: at most so many, and what else knows of one."""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from operator import itemgetter
from typing import Protocol, cast

from aiohttp import web

FAREWELL_SECONDS = 1.0  # for a client that has not read to read the last write, or to close
_LOOK_SECONDS = 1e-5  # a connection, at most once in which idle ones are looked for


class Connection(Protocol):
    """The connection of a request, as long-lived responses see it."""

    when_received: Callable[[int], None] | None  # called with the number of bytes received
    when_lost: Callable[[], None] | None  # called as soon as the client has gone
    farewell: bytes  # written to a client that is cut off, which may read it after all

    def cut(self) -> None:
        """Close the connection of a client that does not read."""

    def abort(self) -> None:
        """Close the connection at once, and drop what it has not sent."""

    def holding(self) -> AbstractContextManager[None]:
        """Count the connection as held by a stream or a socket within the block."""


def connection_of(request: web.BaseRequest) -> Connection:
    """Return the connection that a request came on."""
    return cast("Connection", request.protocol)


@contextmanager
def held_open(request: web.BaseRequest, kernel_bytes: int = 0) -> Iterator[Connection]:
    """Hold the connection of a request for a stream or a socket within the block.

    The kernel buffers at most ``kernel_bytes`` for the client from now on, unless it is 0. Raises
    ConnectionResetError if the client has gone.
    """
    if request.transport is None:
        raise ConnectionResetError
    if kernel_bytes:
        bound_kernel_buffer(request.transport, kernel_bytes)
    connection = connection_of(request)
    with connection.holding():
        yield connection


def bound_kernel_buffer(transport: asyncio.BaseTransport, size: int) -> None:
    """Have the kernel buffer that many bytes, so that a client that does not read is noticed."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def abort(transport: asyncio.Transport) -> None:
    """Close a connection that is full at once, and have the kernel drop what it holds for it.

    Without the reset the kernel would try to deliver it for minutes.
    """
    connection: socket.socket | None = transport.get_extra_info("socket")
    if transport.get_write_buffer_size() and connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Evictable(Protocol):
    """A connection that can be idle."""

    @property
    def idle_since(self) -> float | None:
        """The event loop's time since which no request is under way; None while one is."""

    def force_close(self) -> None:
        """Close it."""


class ConnectionTable:
    """Connections, at most ``limit``; in a full table the one that is idle longest makes room.

    One that has been idle for less than ``grace`` seconds does not.
    """

    def __init__(self, limit: int, grace: float = 0) -> None:
        self._limit = limit
        self._grace = grace
        self._open: set[Evictable] = set()
        # Candidates as of the last look, those idle longest at the end.
        self._idle: list[tuple[float, Evictable]] = []
        self._look_at = 0.0  # the event loop's time before which it is not looked again

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether a new connection needs another one to make room."""
        return len(self._open) >= self._limit

    def add(self, connection: Evictable) -> bool:
        """Add a connection; return false, and do not, if the table is full and none is idle."""
        if self.is_full and not self._make_room():
            return False
        self._open.add(connection)
        return True

    def discard(self, connection: Evictable) -> None:
        """Remove a connection that has closed."""
        self._open.discard(connection)

    def _make_room(self) -> bool:
        return self._evict() or (self._look() and self._evict())

    def _evict(self) -> bool:
        while self._idle:
            since, connection = self._idle.pop()
            if connection in self._open and connection.idle_since == since:
                self._open.discard(connection)
                connection.force_close()
                return True
        return False

    def _look(self) -> bool:
        """Look for idle connections, unless it was done just before: each takes about 0.2 us."""
        now = asyncio.get_running_loop().time()
        if now < self._look_at:
            return False
        self._look_at = now + _LOOK_SECONDS * len(self._open)
        latest = now - self._grace
        found = [
            (since, each)
            for each in self._open
            if (since := each.idle_since) is not None and since <= latest
        ]
        self._idle = sorted(found, key=itemgetter(0), reverse=True)
        return bool(found)
