"""The connections of a process: a bounded table, and the view that long responses have of one."""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from operator import itemgetter
from typing import Protocol, cast

from aiohttp import web

FAREWELL_SECONDS = 1.0  # for a slow client to read the last bytes, or to confirm a close
_SCAN_INTERVAL_SECONDS = 1e-5  # between scans for idle connections, for each open connection


class Connection(Protocol):
    """The connection of a request, as long-lived responses see it."""

    when_received: Callable[[int], None] | None  # called with the number of bytes received
    when_lost: Callable[[], None] | None  # called as soon as the client has gone
    farewell: bytes  # written to a client that is cut off, which may read it after all

    def cut(self) -> None:
        """Close the connection of a client that does not read."""

    def abort(self) -> None:
        """Close the connection at once, and drop unsent bytes."""

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
    """Limit the kernel's send buffer, so that a client that does not read is noticed."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def abort(transport: asyncio.Transport) -> None:
    """Close a connection at once; if it has unsent bytes, with a reset.

    Without the reset the kernel would try for minutes to deliver its send buffer.
    """
    connection: socket.socket | None = transport.get_extra_info("socket")
    if transport.get_write_buffer_size() and connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Evictable(Protocol):
    """A connection that may be closed to make room while it is idle."""

    @property
    def idle_since(self) -> float | None:
        """The event loop's time since when no request is in flight; None while one is."""

    def force_close(self) -> None:
        """Close the connection."""


class ConnectionTable:
    """At most ``limit`` connections; in a full table the one that is idle longest makes room.

    A connection that has been idle for less than ``grace`` seconds stays.
    """

    def __init__(self, limit: int, grace: float = 0) -> None:
        self._limit = limit
        self._grace = grace
        self._open: set[Evictable] = set()
        # Those found by the last scan, the longest idle at the end.
        self._idle: list[tuple[float, Evictable]] = []
        self._next_scan = 0.0  # in the event loop's time

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether a new connection needs another one to make room."""
        return len(self._open) >= self._limit

    def add(self, connection: Evictable) -> bool:
        """Add a connection; return false if the table is full and no connection is idle."""
        if self.is_full and not self._make_room():
            return False
        self._open.add(connection)
        return True

    def discard(self, connection: Evictable) -> None:
        """Remove a connection that has closed."""
        self._open.discard(connection)

    def _make_room(self) -> bool:
        return self._evict() or (self._scan() and self._evict())

    def _evict(self) -> bool:
        while self._idle:
            since, connection = self._idle.pop()
            if connection in self._open and connection.idle_since == since:
                self._open.discard(connection)
                connection.force_close()
                return True
        return False

    def _scan(self) -> bool:
        """Find idle connections, unless the last scan was just before: each costs about 0.2 us."""
        now = asyncio.get_running_loop().time()
        if now < self._next_scan:
            return False
        self._next_scan = now + _SCAN_INTERVAL_SECONDS * len(self._open)
        latest = now - self._grace
        found = [
            (since, each)
            for each in self._open
            if (since := each.idle_since) is not None and since <= latest
        ]
        self._idle = sorted(found, key=itemgetter(0), reverse=True)
        return bool(found)
