"""Workers of a node hand connections to each other, for the polls of Socket.IO.

A polling socket is in one process, but its requests come on several connections, and the kernel
gives each to any worker. So the id of a socket names its worker. A worker that gets a request for
another one's socket hands over the connection with it: the file descriptor, and the bytes it has
read. What follows on that connection, an upgrade to a WebSocket too, then comes to the right
worker, and no byte has to be passed on (docs/decisions/0011-connections-are-handed-over.md).
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiohttp import web

from session_service.domain.budgets import HANDOVER_BYTES, HANDOVER_SECONDS
from session_service.web.http.errors import SocketRefused, error_response
from session_service.web.http.response import REQUEST_ID_HEADER, BaseResponse, TextResponse

VARIABLE = "WORKER_FDS"  # in a worker's environment: see ``variable_for``

# What describes how the bytes came, and not what they are.
_OF_THE_WAY = frozenset(
    (b"content-length", b"transfer-encoding", b"expect", REQUEST_ID_HEADER.lower().encode())
)

log = logging.getLogger(__name__)


class Peers:
    """The workers of a node, as one of them sees them: they receive from the first of each pair."""

    def __init__(self, number: int, inbox: socket.socket, outboxes: list[socket.socket]) -> None:
        self._prefix = f"{number}."
        self._inbox = inbox
        self._outboxes = outboxes
        self._turns = [asyncio.Lock() for _ in outboxes]
        self._adopting: set[asyncio.Task[None]] = set()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Peers | None":
        """Return the peers of this process, if it is a worker."""
        if VARIABLE not in environment:
            return None
        number, inbox, outboxes = environment[VARIABLE].split(":")
        return cls(int(number), _socket(inbox), [_socket(fd) for fd in outboxes.split(",")])

    def mark(self, engine_id: str) -> str:
        """Return the id of a new socket of this worker."""
        return self._prefix + engine_id

    def owner_of(self, engine_id: str) -> int | None:
        """Return the number of the other worker that has a socket, if one has."""
        number, dot, _ = engine_id.partition(".")
        if not dot or not number.isdecimal() or engine_id.startswith(self._prefix):
            return None
        return int(number) if int(number) < len(self._outboxes) else None

    def receive(self, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        """Take connections from now on, each with a protocol of the server."""
        asyncio.get_running_loop().add_reader(self._inbox, self._received, make_protocol)

    def close(self) -> None:
        """Take no more; what waits is for the worker that comes in place of this one."""
        asyncio.get_running_loop().remove_reader(self._inbox)

    async def give(self, number: int, connection: int, request: bytes) -> bool:
        """Hand over a connection, by its file descriptor; returns whether it was taken."""
        outbox = self._outboxes[number]
        try:
            async with asyncio.timeout(HANDOVER_SECONDS), self._turns[number]:
                while True:
                    with suppress(BlockingIOError):
                        socket.send_fds(outbox, [request], [connection])
                        return True
                    await _until_writable(outbox)
        except (OSError, TimeoutError) as error:
            log.warning(
                "connection not handed over", extra={"worker": number, "reason": str(error)}
            )
            return False

    def _received(self, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        try:
            request, fds, _, _ = socket.recv_fds(self._inbox, HANDOVER_BYTES, 1)
        except BlockingIOError:
            return
        for fd in fds:
            connection = socket.socket(fileno=fd)
            task = asyncio.create_task(self._adopt(connection, request, make_protocol))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

    async def _adopt(
        self,
        connection: socket.socket,
        request: bytes,
        make_protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            transport, protocol = await loop.connect_accepted_socket(make_protocol, connection)
        except OSError:  # its client has gone
            connection.close()
            return
        if not transport.is_closing():  # else there is no place for it
            protocol.data_received(request)


class HandedOverResponse(BaseResponse):
    """The response to a request that another worker answers: it hands over the connection."""

    __slots__ = ("_body", "_owner", "_peers")

    status = 200
    content_type = TextResponse.content_type

    def __init__(self, peers: Peers, owner: int, body: bytes) -> None:
        self._peers = peers
        self._owner = owner
        self._body = body

    async def write(self) -> None:
        """Hand over the connection; write an error if the other worker does not take it."""
        request = self.request
        self.keep_alive = False  # for this worker
        if request.transport is None:
            raise ConnectionResetError
        connection = request.transport.get_extra_info("socket").fileno()
        request.transport.pause_reading()  # the next request is for the other worker
        if not await self._peers.give(self._owner, connection, self._raw(request)):
            response = error_response(SocketRefused())
            response.start(request, self.request_id, self.browser_fields, close=True)
            await response.write()

    def _raw(self, request: web.BaseRequest) -> bytes:
        """Write the request as it came, with the id that it has got."""
        version = f"HTTP/{request.version.major}.{request.version.minor}"
        lines = [
            f"{request.method} {request.raw_path} {version}".encode(),
            *(
                name + b": " + value
                for name, value in request.raw_headers
                if name.lower() not in _OF_THE_WAY
            ),
            f"{REQUEST_ID_HEADER}: {self.request_id}".encode(),
        ]
        if self._body:
            lines.append(b"Content-Length: %d" % len(self._body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + self._body


def pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """Make the sockets of a node's workers: of each pair the worker's own, and the others'."""
    made = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
    for pair in made:
        for each in pair:
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * HANDOVER_BYTES)
    return made


def variable_for(number: int, made: list[tuple[socket.socket, socket.socket]]) -> str:
    """Write what a worker has to know: its number, its socket, and those of all to send to."""
    outboxes = ",".join(str(outbox.fileno()) for _, outbox in made)
    return f"{number}:{made[number][0].fileno()}:{outboxes}"


def _socket(fd: str) -> socket.socket:
    return socket.socket(fileno=int(fd))


async def _until_writable(outbox: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    is_writable = asyncio.Event()
    loop.add_writer(outbox, is_writable.set)
    try:
        await is_writable.wait()
    finally:
        loop.remove_writer(outbox)
