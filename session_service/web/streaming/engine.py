"""python-socketio with the limits of this service: the one module that uses its private parts.

The library keeps some 13 KB and a task for each polling handshake, even if the client never
connects. So this module completes handshakes itself, at the cost of an entry in a table, and passes
a client on to the library once it connects. tests/unit/test_engine.py lists every private part of
the library that is used.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import msgspec
import socketio

from session_service.domain.budgets import HANDSHAKE_SECONDS, SOCKET_PACKET_BYTES, UNREAD_BYTES
from session_service.web.http.context import RequestContext
from session_service.web.http.errors import Overloaded, SocketRefused
from session_service.web.streaming.engineio import Event, Receive, Send
from session_service.web.streaming.handshakes import Handshakes

UNREADABLE = "unreadable"  # the event in place of a packet that is not strict JSON
UNKNOWN_SOCKET = (
    "The sid is of no socket that is open here. Behind a load balancer, a client that polls has to"
    " stay at one node; with transports: ['websocket'] it does."
)
_CONNECT = "40"  # the packet with which a client connects

# The library logs every packet, with the content of messages.
_silent = logging.getLogger(f"{__name__}.library")
_silent.setLevel(logging.CRITICAL)


class _StrictJson:
    """Strict JSON, as in the rest of the service: no NaN, no number out of range."""

    @staticmethod
    def loads(text: str) -> Any:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            # The library drops a packet if this raises; an event gets an acknowledgement.
            return [UNREADABLE, str(error)]

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return msgspec.json.encode(value).decode()


class _Unread:
    """The size of all packets that clients have not read; a packet to many counts once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._readers: dict[Any, int] = {}

    def add(self, packet: Any) -> int:
        """Add a reader of a packet; return the packet's size."""
        readers = self._readers.get(packet, 0)
        self._readers[packet] = readers + 1
        if not readers:
            self.bytes += len(packet.data)
        return len(packet.data)

    def remove(self, packet: Any) -> int:
        """Remove a reader of a packet; return the packet's size."""
        readers = self._readers.pop(packet)
        if readers > 1:
            self._readers[packet] = readers - 1
        else:
            self.bytes -= len(packet.data)
        return len(packet.data)


class _Queue(asyncio.Queue[Any]):
    """The packets that a client has not read yet, and their size."""

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
    """The library's server, with at most ``max_sockets`` sockets.

    ``mark`` adds the number of this worker to a new id, see ``Peers.mark``.
    """

    def __init__(self, max_sockets: int, mark: Callable[[str], str] = str) -> None:
        packet_class = type(
            "Packet", (socketio.packet.Packet,), {"json": _StrictJson, "uses_binary_events": False}
        )
        self.server = socketio.AsyncServer(
            async_mode="asgi",
            async_handlers=False,  # the events of a socket are handled one by one, in order
            serializer=packet_class,
            logger=_silent,
            engineio_logger=_silent,
            cors_allowed_origins=[],  # App.handle checks origins
            max_http_buffer_size=SOCKET_PACKET_BYTES,
            http_compression=False,
        )
        self._engine = self.server.eio
        self._unread = _Unread()
        self._engine.create_queue = lambda: _Queue(self._unread)
        self._make_id = self._engine.generate_id
        self._engine.generate_id = self._next_id
        self._library_on_connect = self._engine.handlers["connect"]
        self._engine.on("connect", self._on_connect)
        self._max_sockets = max_sockets
        self._closing: set[asyncio.Task[None]] = set()
        self._handshakes = Handshakes(mark)
        self._id: ContextVar[str | None] = ContextVar("id", default=None)

    async def serve(self, scope: Event, receive: Receive, send: Send) -> None:
        """Serve a request with the id of its socket, or one that opens a WebSocket.

        An ASGI application, with the scope of ``engineio``. Raises SocketRefused or Overloaded.
        """
        socket_id = scope["sid"]
        if socket_id in self._handshakes:
            event = await receive()
            if event.get("body", b"").startswith(_CONNECT.encode()):
                await self._connect(socket_id, scope)
            else:
                await self._handshakes.wait_for_end(socket_id)
            receive = _replaying(event, receive)
        if socket_id and not self.has(socket_id):
            raise SocketRefused(UNKNOWN_SOCKET)  # for some ids the library would raise KeyError
        await self.server.handle_request(scope, receive, send)

    def shake_hands(self) -> bytes:
        """Begin a polling socket; return the packet with its id; raises Overloaded.

        For example, ``0{"sid":"kQ3xV0bT8mK1wZc5yR7h","upgrades":["websocket"], …}``.
        """
        self.refuse_too_many()
        handshake = {
            "sid": self._handshakes.begin(),
            "upgrades": ["websocket"],
            "pingTimeout": int(self._engine.ping_timeout * 1000),
            "pingInterval": int(self._engine.ping_interval * 1000),
            "maxPayload": SOCKET_PACKET_BYTES,
        }
        return b"0" + msgspec.json.encode(handshake)

    def has(self, engine_id: str) -> bool:
        """Return whether a socket is open here, or has completed its handshake."""
        connection = self._engine.sockets.get(engine_id)
        return engine_id in self._handshakes if connection is None else not connection.closed

    def refuse_too_many(self) -> None:
        """Raise Overloaded if the maximum number of sockets is open."""
        if len(self._engine.sockets) >= self._max_sockets:
            raise Overloaded

    def context_of(self, socket: str) -> RequestContext:
        """Return the context of the request that connected a socket.

        The library keeps it. The handler of ``connect`` cannot, because a client may also emit an
        event of that name, with any argument.
        """
        context: RequestContext = self.server.get_environ(socket)["asgi.scope"]["context"]
        return context

    def unread(self, socket: str) -> tuple[int, int]:
        """Return the number of packets that a socket's client has not read, and their bytes."""
        connection = self._connection(socket)
        return (0, 0) if connection is None else (connection.queue.qsize(), connection.queue.bytes)

    @property
    def is_full(self) -> bool:
        """Whether the packets that clients have not read use more memory than allowed."""
        return self._unread.bytes > UNREAD_BYTES

    def release(self, socket: str) -> None:
        """Drop the unread packets of a closed socket, and end its poll if one waits."""
        connection = self._connection(socket)
        if connection is not None:
            connection.queue.forget()
            connection.queue.put_nowait(None)

    async def drop(self, sockets: Iterable[str]) -> None:
        """Close sockets in such a way that their clients reconnect."""
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

    async def _connect(self, engine_id: str, scope: Event) -> None:
        """Pass a client on to the library, by a second handshake; raises Overloaded."""
        self.refuse_too_many()
        if not self._handshakes.end(engine_id):
            return
        first: Event = {"type": "http.request", "body": b""}
        handshake = {**scope, "method": "GET", "query_string": b"EIO=4&transport=polling"}
        self._id.set(engine_id)
        await self.server.handle_request(handshake, _replaying(first), _ignore)
        self._id.set(None)

    def _next_id(self) -> str:
        engine_id = self._id.get()
        self._id.set(None)
        return engine_id or str(self._make_id())

    async def _on_connect(self, engine_id: str, environ: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        loop.call_later(HANDSHAKE_SECONDS, self._close_unless_connected, engine_id)
        return await self._library_on_connect(engine_id, environ)

    def _close_unless_connected(self, engine_id: str) -> None:
        """Close a socket whose client has not connected within HANDSHAKE_SECONDS."""
        connection = self._engine.sockets.get(engine_id)
        if connection is not None and not self.server.manager.sid_from_eio_sid(engine_id, "/"):
            del self._engine.sockets[engine_id]
            closing = asyncio.create_task(_close(connection), name="socket closing")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def _replaying(first: Event, then: Receive | None = None) -> Receive:
    """Return an ASGI ``receive`` that returns an event received before, and then others.

    Without ``then`` it returns the first event each time.
    """
    events = [first]

    async def receive() -> Event:
        if events or then is None:
            return events.pop() if events else first
        return await then()

    return receive


async def _ignore(_: Event) -> None:
    pass


async def _close(connection: Any) -> None:
    """Close an Engine.IO socket at once; by default it first waits for the client to read."""
    await connection.close(wait=False, abort=True)
    connection.queue.forget()
    connection.queue.put_nowait(None)  # ends the task that writes
