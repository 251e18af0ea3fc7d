"""python-socketio, set up for this service: the one module that knows the library's inner parts.

The library keeps some 13 KB and a task for each polling handshake, whether the client connects or
not. So handshakes are answered here, and cost an entry in a table; the library learns of a client
when it connects. tests/unit/test_engine.py names every inner part of the library that is used.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any

import msgspec
import socketio

from session_service.domain.budgets import HANDSHAKE_SECONDS, SOCKET_PACKET_BYTES, UNREAD_BYTES
from session_service.web.http.errors import Overloaded, SocketRefused
from session_service.web.streaming.handshakes import Handshakes

UNREADABLE = "unreadable"  # the event that stands for a packet that is not strict JSON
UNKNOWN_SOCKET = (
    "The sid is of no socket that is open here. Behind a load balancer, a client that polls has to"
    " stay at one node; with transports: ['websocket'] it does."
)
_CONNECT = "40"  # the packet by which a client connects

# The library logs at length, and with content, what clients do.
_silent = logging.getLogger(f"{__name__}.library")
_silent.setLevel(logging.CRITICAL)

_Event = dict[str, Any]
_Receive = Callable[[], Awaitable[_Event]]
_Send = Callable[[_Event], Awaitable[None]]


class _StrictJson:
    """JSON as the rest of the service takes it: no NaN, no number out of range."""

    @staticmethod
    def loads(text: str) -> Any:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            # The library drops what raises, without an answer; an event can be answered.
            return [UNREADABLE, str(error)]

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return msgspec.json.encode(value).decode()


class _Unread:
    """The packets that clients have not read, each counted once, however many it is for."""

    def __init__(self) -> None:
        self.bytes = 0
        self._readers: dict[Any, int] = {}

    def add(self, packet: Any) -> int:
        """Count a reader of a packet; return the packet's size."""
        readers = self._readers.get(packet, 0)
        self._readers[packet] = readers + 1
        if not readers:
            self.bytes += len(packet.data)
        return len(packet.data)

    def remove(self, packet: Any) -> int:
        """Count a reader of a packet out; return the packet's size."""
        readers = self._readers.pop(packet)
        if readers > 1:
            self._readers[packet] = readers - 1
        else:
            self.bytes -= len(packet.data)
        return len(packet.data)


class _Queue(asyncio.Queue[Any]):
    """The packets that wait for a client to read them, and their size."""

    def __init__(self, unread: _Unread) -> None:
        super().__init__()
        self.bytes = 0
        self._unread = unread

    def forget(self) -> None:
        """Drop all packets: the client has gone."""
        while not self.empty():
            self.get_nowait()

    def _put(self, item: Any) -> None:
        super()._put(item)
        if _has_text(item):
            self.bytes += self._unread.add(item)

    def _get(self) -> Any:
        item = super()._get()
        if _has_text(item):
            self.bytes -= self._unread.remove(item)
        return item


def _has_text(packet: Any) -> bool:
    return packet is not None and isinstance(packet.data, str)


class Engine:
    """The library's server, with at most so many sockets.

    ``mark`` makes of a new id one that names this worker.
    """

    def __init__(self, max_sockets: int, mark: Callable[[str], str] = str) -> None:
        packet_class = type(
            "Packet", (socketio.packet.Packet,), {"json": _StrictJson, "uses_binary_events": False}
        )
        self.server = socketio.AsyncServer(
            async_mode="asgi",
            async_handlers=False,  # one thing at a time of a socket, in order
            serializer=packet_class,
            logger=_silent,
            engineio_logger=_silent,
            cors_allowed_origins=[],  # web/browsers.py decides about origins
            max_http_buffer_size=SOCKET_PACKET_BYTES,
            http_compression=False,
        )
        self._engine = self.server.eio
        self._unread = _Unread()
        self._engine.create_queue = lambda: _Queue(self._unread)
        self._make_id = self._engine.generate_id
        self._engine.generate_id = self._next_id
        self._begin = self._engine.handlers["connect"]
        self._engine.on("connect", self._begun)
        self._max_sockets = max_sockets
        self._closing: set[asyncio.Task[None]] = set()
        self._handshakes = Handshakes(mark)
        self._id: ContextVar[str | None] = ContextVar("id", default=None)

    async def serve(self, scope: _Event, receive: _Receive, send: _Send) -> None:
        """Serve a request that names its socket, or opens a WebSocket: an ASGI application.

        Raises SocketRefused or Overloaded.
        """
        socket_id = scope["sid"]
        if socket_id in self._handshakes:
            event = await receive()
            if event.get("body", b"").startswith(_CONNECT.encode()):
                await self._connect(socket_id, scope)
            else:
                await self._handshakes.over(socket_id)
            receive = _again(event, receive)
        if socket_id and not self.has(socket_id):
            raise SocketRefused(UNKNOWN_SOCKET)  # the library would raise KeyError for some
        await self.server.handle_request(scope, receive, send)

    def shake_hands(self) -> bytes:
        """Begin a polling socket; returns the packet that tells its client how to go on.

        Raises Overloaded.
        """
        self.refuse_too_many()
        hello = {
            "sid": self._handshakes.begin(),
            "upgrades": ["websocket"],
            "pingTimeout": int(self._engine.ping_timeout * 1000),
            "pingInterval": int(self._engine.ping_interval * 1000),
            "maxPayload": SOCKET_PACKET_BYTES,
        }
        return b"0" + msgspec.json.encode(hello)

    def has(self, engine_id: str) -> bool:
        """Return whether a socket is open here, or a client has shaken hands for it."""
        connection = self._engine.sockets.get(engine_id)
        return engine_id in self._handshakes if connection is None else not connection.closed

    def refuse_too_many(self) -> None:
        """Raise Overloaded if there are as many sockets as there may be."""
        if len(self._engine.sockets) >= self._max_sockets:
            raise Overloaded

    def unread(self, socket: str) -> tuple[int, int]:
        """Return how many packets wait for a socket's client to read them, and their bytes."""
        connection = self._connection(socket)
        return (0, 0) if connection is None else (connection.queue.qsize(), connection.queue.bytes)

    @property
    def is_full(self) -> bool:
        """Whether the packets that clients have not read take all the memory that they may."""
        return self._unread.bytes > UNREAD_BYTES

    def release(self, socket: str) -> None:
        """Drop what a socket has not read, and end its poll, which would wait on."""
        connection = self._connection(socket)
        if connection is not None:
            connection.queue.forget()
            connection.queue.put_nowait(None)

    async def drop(self, sockets: Iterable[str]) -> None:
        """Close sockets such that their clients connect again."""
        for socket in sockets:
            connection = self._connection(socket)
            if connection is not None:
                await _close(connection)

    async def close(self) -> None:
        """Close all sockets."""
        for connection in list(self._engine.sockets.values()):
            await _close(connection)
        await self.server.shutdown()

    def _connection(self, socket: str) -> Any:
        return self._engine.sockets.get(self.server.manager.eio_sid_from_sid(socket, "/"))

    async def _connect(self, engine_id: str, scope: _Event) -> None:
        """Make the library shake hands with a client that has done so here; raises Overloaded."""
        self.refuse_too_many()
        if not self._handshakes.end(engine_id):
            return
        first: _Event = {"type": "http.request", "body": b""}
        handshake = {**scope, "method": "GET", "query_string": b"EIO=4&transport=polling"}
        self._id.set(engine_id)
        await self.server.handle_request(handshake, _again(first), _ignore)
        self._id.set(None)

    def _next_id(self) -> str:
        given = self._id.get()
        self._id.set(None)
        return given or str(self._make_id())

    async def _begun(self, engine_id: str, environ: dict[str, Any]) -> Any:
        asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self._expect, engine_id)
        return await self._begin(engine_id, environ)

    def _expect(self, engine_id: str) -> None:
        """Close a socket that has not connected in time."""
        connection = self._engine.sockets.get(engine_id)
        if connection is not None and not self.server.manager.sid_from_eio_sid(engine_id, "/"):
            del self._engine.sockets[engine_id]
            closing = asyncio.create_task(_close(connection), name="socket closing")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def _again(first: _Event, then: _Receive | None = None) -> _Receive:
    """Return a way to receive that begins with an event received before."""
    events = [first]

    async def receive() -> _Event:
        if events or then is None:
            return events.pop() if events else first
        return await then()

    return receive


async def _ignore(_: _Event) -> None:
    pass


async def _close(connection: Any) -> None:
    """Close an Engine.IO socket at once; its own way waits until the client has read everything."""
    await connection.close(wait=False, abort=True)
    connection.queue.forget()
    connection.queue.put_nowait(None)  # ends who writes
