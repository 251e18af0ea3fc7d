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

import engineio
import msgspec
import socketio

from session_service.domain.budgets import HANDSHAKE_SECONDS, SOCKET_PACKET_BYTES, UNREAD_BYTES
from session_service.domain.errors import NotAuthenticated
from session_service.web.http.connections import FAREWELL_SECONDS
from session_service.web.http.context import RequestContext
from session_service.web.http.errors import Overloaded, SocketRefused
from session_service.web.streaming.engineio import Event, Receive, Send
from session_service.web.streaming.handshakes import Handshakes
from session_service.web.streaming.unread import PacketQueue, Unread

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
        self._unread = Unread()
        self._engine.create_queue = lambda: PacketQueue(self._unread)
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
        if "abort" in scope and socket_id in self.server.environ:  # an upgrade
            self.server.environ[socket_id]["asgi.scope"]["abort"] = scope["abort"]
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
        """Return the context of the request that connected a socket; the library keeps it.

        With access control it has the credential of the client; raises NotAuthenticated if that has
        ended.
        """
        context: RequestContext | None = self._scope(socket)["context"]
        if context is None:
            raise NotAuthenticated
        return context

    def headers_of(self, socket: str) -> list[tuple[bytes, bytes]]:
        """Return the header fields of the request that connected a socket."""
        headers: list[tuple[bytes, bytes]] = self._scope(socket)["headers"]
        return headers

    def is_connected(self, socket: str) -> bool:
        """Return whether a client was accepted, and has not disconnected.

        Without that, an event that a client calls ``connect`` looks like a new client.
        """
        return bool(self.server.manager.is_connected(socket, "/"))

    def admit(self, socket: str, context: RequestContext) -> bool:
        """Set the context of a client that connects; return false if it has gone meanwhile."""
        connection = self._connection(socket)
        if connection is None or connection.closed:
            return False
        self._scope(socket)["context"] = context
        return True

    def close_unless_admitted(self, socket: str) -> None:
        """Close a socket whose client was refused, unless it connects within a second."""
        engine_id = self.server.manager.eio_sid_from_sid(socket, "/")
        asyncio.get_running_loop().call_later(
            FAREWELL_SECONDS, self._close_unless_connected, engine_id
        )

    def dismiss(self, socket: str, event: str) -> None:
        """Disconnect a socket after a last event; nothing else reaches its client, or has effect.

        The client has a second to read the event; then its connection is cut.
        """
        connection = self._connection(socket)
        if connection is None:
            return
        scope = self._scope(socket)
        scope["context"] = None
        packet_class = self.server.packet_class
        packets = [
            packet_class(socketio.packet.EVENT, data=[event, {}]),
            packet_class(socketio.packet.DISCONNECT),
        ]
        connection.queue.finish(
            engineio.packet.Packet(engineio.packet.MESSAGE, packet.encode()) for packet in packets
        )
        loop = asyncio.get_running_loop()
        loop.call_later(FAREWELL_SECONDS, self._close_soon, connection)
        if "abort" in scope:
            loop.call_later(FAREWELL_SECONDS, scope["abort"])

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

    def drop_soon(self, socket: str) -> None:
        """Close a socket in such a way that its client reconnects, after this turn."""
        connection = self._connection(socket)
        if connection is not None:
            self._close_soon(connection)

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
            self._close_soon(connection)

    def _close_soon(self, connection: Any) -> None:
        closing = asyncio.create_task(_close(connection), name="socket closing")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _scope(self, socket: str) -> Event:
        scope: Event = self.server.get_environ(socket)["asgi.scope"]
        return scope


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
