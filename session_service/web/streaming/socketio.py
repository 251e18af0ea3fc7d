"""Socket.IO: clients join the rooms of sessions, send messages, and receive what happens."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from session_service.api.messages import SendMessage
from session_service.domain.errors import ServiceError, StoreUnavailable, ValidationFailed
from session_service.domain.ids import new_message_id
from session_service.domain.messages import Message
from session_service.web.http.context import RequestContext
from session_service.web.http.decoding import RequestDecoder
from session_service.web.http.errors import (
    InternalError,
    InvalidJson,
    NotReady,
    Overloaded,
    SocketRefused,
    error_body,
)
from session_service.web.http.fields import message_of
from session_service.web.http.handover import HandedOverResponse
from session_service.web.http.response import Response, TextResponse
from session_service.web.http.state import AppState
from session_service.web.streaming.engine import UNREADABLE, Engine
from session_service.web.streaming.engineio import EngineIoResponse, read_packets
from session_service.web.streaming.messages import (
    Sent,
    acknowledged,
    broadcast,
    joined,
    names_of,
    read_message,
    renamed,
    session_id_of,
)
from session_service.web.streaming.rooms import Rooms

PATH = "/socket.io/"

# The types of a published client's messages, which it may also use as the event's name.
_JOIN, _SEND = 1, 2

_OTHER_VERSION = "Allowed: clients of version 3 and 4 of Socket.IO (EIO=4)."

log = logging.getLogger(__name__)

_Acknowledgement = dict[str, Any]


class Sockets:
    """The Socket.IO server of this process, with at most so many sockets."""

    def __init__(self, state: AppState, max_sockets: int) -> None:
        self._state = state
        self._admission = state.admission
        self._peers = state.peers
        self._engine = Engine(max_sockets, self._peers.mark if self._peers else str)
        self._rooms = Rooms(state, self._engine)
        self._decoder = RequestDecoder(SendMessage, state.policy)
        self._contexts: dict[str, RequestContext] = {}  # by socket
        self._greetings: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Task[None] | None = None
        server = self._engine.server
        server.on("connect", self._connected)
        server.on("disconnect", self._disconnected)
        for name, handler in {
            "join": self._join,
            str(_JOIN): self._join,
            "leave": self._leave,
            "message": self._message,
            str(_SEND): self._send,
            UNREADABLE: self._unreadable,
        }.items():
            server.on(name, partial(self._answered, handler))
        state.when_draining.append(self._stop)

    async def handle(
        self, context: RequestContext, request: web.BaseRequest, _: object
    ) -> Response:
        """Take a request of one of the transports; raises ServiceError.

        A GET opens a socket or reads from it, so it is checked as a change is.
        """
        self._state.browsers.check_page(request.headers)
        if self._state.draining:
            raise NotReady
        query = request.query
        if "sid" not in query or "Upgrade" in request.headers:
            self._admission.check_held()
        if "sid" not in query:
            if query.get("EIO") != "4":
                raise SocketRefused(_OTHER_VERSION)
            if request.method == "GET" and query.get("transport", "polling") == "polling":
                return TextResponse(200, self._engine.shake_hands())
            self._engine.refuse_too_many()
        body = b""
        if request.method == "POST":
            body = await read_packets(request, self._admission)
        owner = self._peers.owner_of(query.get("sid", "")) if self._peers else None
        if self._peers and owner is not None:
            return HandedOverResponse(self._peers, owner, body)
        return EngineIoResponse(context, self._engine.serve, body)

    async def _connected(self, socket: str, environ: dict[str, Any], *_: object) -> None:
        self._contexts[socket] = environ["asgi.scope"]["context"]
        self._rooms.enter(socket)
        # The library tells the client that it is connected when this returns.
        greeting = asyncio.create_task(self._greet(socket), name="socket greeting")
        self._greetings.add(greeting)
        greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, socket: str) -> None:
        hello = {"message": "Connected", "socketId": socket}
        await self._engine.server.emit("connection_established", hello, to=socket)

    async def _disconnected(self, socket: str, *_: object) -> None:
        self._contexts.pop(socket, None)
        self._rooms.exit(socket)
        self._engine.release(socket)

    async def _answered(
        self,
        handler: Callable[[RequestContext, str, Any], Awaitable[_Acknowledgement]],
        socket: str,
        payload: object = None,
        *_: object,
    ) -> _Acknowledgement:
        """Handle an event that a client emits; return the acknowledgement."""
        try:
            return await handler(self._contexts[socket], socket, payload)
        except ServiceError as error:
            if isinstance(error, StoreUnavailable):
                self._admission.refused.store.log(reason=error.reason)
            return await self._refuse(socket, error)
        except Exception:  # a defect is answered like any error: no trace to the caller
            log.exception("defect in a socket")
            return await self._refuse(socket, InternalError())

    async def _refuse(self, socket: str, error: ServiceError) -> _Acknowledgement:
        """Emit an error, for a client that wants no acknowledgement; returns that.

        ``messageError`` is the form that published clients listen for.
        """
        body: dict[str, Any] = msgspec.to_builtins(error_body(error))
        emit = self._engine.server.emit
        await emit("error", body, to=socket)
        await emit("messageError", {"error": str(error)}, to=socket)
        return body

    async def _join(
        self, context: RequestContext, socket: str, payload: object
    ) -> _Acknowledgement:
        session = await self._rooms.join(context, socket, session_id_of(payload))
        for name in ("channel_joined", "room_joined"):
            await self._engine.server.emit(name, joined(session), to=socket)
        return {"success": True, **names_of(session.id)}

    async def _leave(self, _: RequestContext, socket: str, payload: object) -> _Acknowledgement:
        session_id = session_id_of(payload)
        self._rooms.leave(socket, session_id)
        return {"success": True, **names_of(session_id)}

    async def _message(
        self, context: RequestContext, socket: str, message: object
    ) -> _Acknowledgement:
        """Join or send, by the message's type."""
        if not isinstance(message, dict):
            message = {}
        payload = message.get("payload", message)
        if message.get("type") == _JOIN:
            return await self._join(context, socket, payload)
        if message.get("type") == _SEND:
            return await self._send(context, socket, payload)
        raise ValidationFailed("type", f"must be {_JOIN}, to join, or {_SEND}, to send a message")

    async def _send(
        self, context: RequestContext, socket: str, payload: object
    ) -> _Acknowledgement:
        try:
            sent = read_message(payload, self._decoder)
            if self._admission.is_full:
                self._admission.refused.overload.log()
                raise Overloaded
            is_member = self._rooms.has(socket, sent.session_id)
            message = await self._store(context, socket, sent)
        except ValidationFailed as error:
            raise renamed(error) from None
        answer = acknowledged(sent, message)
        await self._engine.server.emit("messageAck", answer, to=socket)
        if not is_member:
            await self._show_sender(socket, sent, message)
        return {"success": True, **answer}

    async def _store(self, context: RequestContext, socket: str, sent: Sent) -> Message:
        message_id = new_message_id(os.urandom)
        if sent.client_message_id is not None:
            self._rooms.expect(socket, sent.session_id, message_id, sent.client_message_id)
        self._admission.request_begins()
        try:
            message, _, _ = await context.sessions.send(
                sent.session_id, message_of(sent.message), message_id
            )
        except StoreUnavailable:
            raise  # it may have been stored
        except ServiceError:
            self._rooms.expect_no_more(sent.session_id, message_id)
            raise
        finally:
            self._admission.request_ends()
        return message

    async def _show_sender(self, socket: str, sent: Sent, message: Message) -> None:
        """Send the sender its message, without a room: as the published server does."""
        shown = {
            **broadcast(message, sent.session_id),
            "clientMessageId": sent.client_message_id,
        }
        await self._engine.server.emit("messageBroadcast", shown, to=socket)

    async def _unreadable(self, _: RequestContext, __: str, reason: object) -> _Acknowledgement:
        raise InvalidJson(f"It is not JSON: {reason}")

    def _stop(self) -> None:
        self._stopping = asyncio.create_task(self._engine.close(), name="sockets stop")
