"""Workers of a node hand connections to each other, for clients of Socket.IO that poll.

A polling socket lives in one worker, but its requests come on several connections, and the kernel
gives each to any worker. So the id of a socket contains the number of its worker, for example
``2.kQ3xV0bT8mK1wZc5yR7h``. A worker that receives a request for another worker's socket hands over
the connection: its file descriptor, and the bytes read so far. Later requests on that connection,
also an upgrade to a WebSocket, then reach the right worker without being forwarded
(docs/decisions/0011-connections-are-handed-over.md).
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

# They describe the transfer to this worker, and are written anew for the next.
_HOP_FIELDS = frozenset(
    (b"content-length", b"transfer-encoding", b"expect", REQUEST_ID_HEADER.lower().encode())
)

log = logging.getLogger(__name__)


class Peers:
    """The workers of a node, as one of them sees them.

    Worker ``number`` receives from its ``inbox``, and sends to each worker through the outbox with
    that worker's number.
    """

    def __init__(self, number: int, inbox: socket.socket, outboxes: list[socket.socket]) -> None:
        self._prefix = f"{number}."
        self._inbox = inbox
        self._outboxes = outboxes
        self._outbox_locks = [asyncio.Lock() for _ in outboxes]
        self._adopting: set[asyncio.Task[None]] = set()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Peers | None":
        """Return the peers of this process, or None if it is not a worker."""
        if VARIABLE not in environment:
            return None
        number, inbox, outboxes = environment[VARIABLE].split(":")
        return cls(int(number), _socket(inbox), [_socket(fd) for fd in outboxes.split(",")])

    def mark(self, engine_id: str) -> str:
        """Return the id of a new socket of this worker: ``2.kQ3xV0bT8mK1wZc5yR7h`` for worker 2."""
        return self._prefix + engine_id

    def owner_of(self, engine_id: str) -> int | None:
        """Return the number of another worker that a socket's id names, or None."""
        number, dot, _ = engine_id.partition(".")
        if not dot or not number.isdecimal() or engine_id.startswith(self._prefix):
            return None
        return int(number) if int(number) < len(self._outboxes) else None

    def receive(self, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        """Accept connections of other workers, each with a new protocol of the server."""
        asyncio.get_running_loop().add_reader(self._inbox, self._received, make_protocol)

    def close(self) -> None:
        """Accept no more; those in the inbox stay for the worker that replaces this one."""
        asyncio.get_running_loop().remove_reader(self._inbox)

    async def give(self, number: int, connection: int, request: bytes) -> bool:
        """Send a connection's file descriptor and request to the worker with a number.

        Returns false if that worker's inbox stays full for HANDOVER_SECONDS.
        """
        outbox = self._outboxes[number]
        try:
            async with asyncio.timeout(HANDOVER_SECONDS), self._outbox_locks[number]:
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
        if not transport.is_closing():  # else there is no room for it
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
        """Hand over the connection; write an error if the other worker's inbox is full."""
        request = self.request
        self.keep_alive = False  # for this worker
        if request.transport is None:
            raise ConnectionResetError
        connection = request.transport.get_extra_info("socket").fileno()
        request.transport.pause_reading()  # the next request is for the other worker
        if not await self._peers.give(self._owner, connection, self._raw(request)):
            response = error_response(SocketRefused())
            response.start(request, self.request_id, self.request_fields, close=True)
            await response.write()

    def _raw(self, request: web.BaseRequest) -> bytes:
        """Return the bytes of the request as received, with its request id."""
        version = f"HTTP/{request.version.major}.{request.version.minor}"
        lines = [
            f"{request.method} {request.raw_path} {version}".encode(),
            *(
                name + b": " + value
                for name, value in request.raw_headers
                if name.lower() not in _HOP_FIELDS
            ),
            f"{REQUEST_ID_HEADER}: {self.request_id}".encode(),
        ]
        if self._body:
            lines.append(b"Content-Length: %d" % len(self._body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + self._body


def pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """Return a socket pair for each worker: its inbox, and the outbox of the others."""
    pairs_of_sockets = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
    for pair in pairs_of_sockets:
        for each in pair:
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * HANDOVER_BYTES)
    return pairs_of_sockets


def variable_for(number: int, workers: list[tuple[socket.socket, socket.socket]]) -> str:
    """Return the value of VARIABLE for a worker: its number and the file descriptors of sockets.

    ``1:12:11,13`` is worker 1, with the inbox 12 and the outboxes 11 and 13 of workers 0 and 1.
    """
    outboxes = ",".join(str(outbox.fileno()) for _, outbox in workers)
    return f"{number}:{workers[number][0].fileno()}:{outboxes}"


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
