"""Socket.IO: clients join the rooms of sessions, send messages, and receive events."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from aiohttp import web
from socketio.exceptions import ConnectionRefusedError as ConnectionRefused

from session_service.access.authenticator import Authenticator
from session_service.access.watch import End
from session_service.api.messages import SendMessage
from session_service.audit import REFUSALS, AuditEvent, Outcome
from session_service.domain.credentials import Credential, Permission
from session_service.domain.errors import (
    NotAuthenticated,
    ServiceError,
    StoreUnavailable,
    ValidationFailed,
)
from session_service.domain.ids import new_message_id
from session_service.domain.messages import Message
from session_service.web.http.charging import charge_address, serve
from session_service.web.http.context import RequestContext
from session_service.web.http.decoding import RequestDecoder
from session_service.web.http.errors import (
    ERRORS,
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
from session_service.web.streaming.admittance import admit
from session_service.web.streaming.engine import UNREADABLE, Engine
from session_service.web.streaming.engineio import EngineIoResponse, read_packets
from session_service.web.streaming.messages import (
    Sent,
    acknowledged,
    broadcast,
    joined,
    names_of,
    read_message,
    session_id_of,
    with_socket_names,
)
from session_service.web.streaming.rooms import Rooms
from session_service.web.streaming.sse import is_final

PATH = "/socket.io/"

# The types of messages of published clients, which also use them as names of events.
_JOIN, _SEND = 1, 2

_EXPIRED = "credential-expired"  # the last event of a socket whose credential has ended
_OPERATION = "socket"  # in the audit log
_OTHER_VERSION = "Allowed: clients of version 3 and 4 of Socket.IO (EIO=4)."

_Acknowledgement = dict[str, Any]
_Handler = Callable[[RequestContext, str, Any], Awaitable[_Acknowledgement]]
# Logs an event by its name, with the context, the seconds that it took, and the error or None.
_Log = Callable[[str, RequestContext, float, Exception | None], None]


class Sockets:
    """The Socket.IO server of this process, with at most ``max_sockets`` sockets.

    A client emits, for example, ``42["join",{"channelId":"<session id>"}]``. ``log`` is called for
    each event of a client.
    """

    def __init__(self, state: AppState, max_sockets: int, log: _Log) -> None:
        self._state = state
        self._admission = state.admission
        self._log = log
        self._peers = state.peers
        self._engine = Engine(max_sockets, self._peers.mark if self._peers else str)
        self._rooms = Rooms(state, self._engine)
        self._decoder = RequestDecoder(SendMessage, state.policy)
        self._ends: dict[str, tuple[Credential, End]] = {}  # as they are watched, by socket
        self._greetings: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Task[None] | None = None
        server = self._engine.server
        server.on("connect", self._on_connect)
        server.on("disconnect", self._on_disconnect)
        for name, handler in {
            "join": self._join,
            str(_JOIN): self._join,
            "leave": self._leave,
            "message": self._message,
            str(_SEND): self._send,
            UNREADABLE: self._unreadable,
        }.items():
            shown = handler.__name__.lstrip("_")  # in the log and in traces
            handle: Callable[..., Any] = partial(self._acknowledge, handler, shown)
            if state.tracing is not None:
                handle = state.tracing.of_event(shown, handle)
            server.on(name, handle)
        state.when_draining.append(self._stop)

    async def handle(
        self, context: RequestContext, request: web.BaseRequest, _: object
    ) -> Response:
        """Return the response to a request of one of the transports; raises ServiceError.

        A GET may open a socket, so it is checked like a request that changes something.
        """
        self._state.browsers.check_page(request.headers)
        if self._state.draining:
            raise NotReady
        query = request.query
        if "sid" not in query or "Upgrade" in request.headers:
            self._admission.check_held()
        if "sid" not in query:
            if self._state.limits and self._state.access is None:
                charge_address(self._state.limits, context, request)
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

    async def _on_connect(
        self, socket: str, _: object = None, auth: object = None, *__: object
    ) -> None:
        if self._state.access and not self._engine.is_connected(socket):
            await self._admit(self._state.access, socket, auth)
        self._rooms.enter(socket)
        # The library accepts the connection when this returns; only then the client can be greeted.
        greeting = asyncio.create_task(self._send_greeting(socket), name="socket greeting")
        self._greetings.add(greeting)
        greeting.add_done_callback(self._greetings.discard)

    async def _admit(self, access: Authenticator, socket: str, auth: object) -> None:
        """Find the credential of a client that connects; raises ConnectionRefused.

        The client learns of an error that is final. After any other it is disconnected, so that it
        connects again by itself.
        """
        context = self._engine.context_of(socket)
        started = time.perf_counter()
        try:
            context = await admit(access, context, self._engine.headers_of(socket), auth)
        except Exception as error:  # noqa: BLE001 - the library would keep the client, not in, not out
            self._log_end("connect", context, started, error)
            if isinstance(error, ServiceError) and is_final(type(error)):
                self._engine.close_unless_admitted(socket)
                raise ConnectionRefused(str(error), _body_of(error)) from None
            await self._engine.drop([socket])
            raise ConnectionRefused from None
        if not self._engine.admit(socket, context):
            raise ConnectionRefused
        if self._state.watch:
            end = partial(self._end, socket)
            self._state.watch.add(context.credential, end)
            self._ends[socket] = context.credential, end

    def _end(self, socket: str, has_expired: bool) -> None:
        """Close a socket whose credential has ended, or cannot be verified any more."""
        self._rooms.exit(socket)
        if has_expired:
            self._engine.dismiss(socket, _EXPIRED)
        else:
            self._engine.drop_soon(socket)

    def _log_end(
        self, name: str, context: RequestContext, started: float, error: Exception | None = None
    ) -> None:
        """Log the end of an event as that of a request is, a refusal in the audit log, too."""
        self._log(name, context, time.perf_counter() - started, error)
        if isinstance(error, ServiceError) and (status := ERRORS[type(error)].status) in REFUSALS:
            context.audit(AuditEvent.REFUSED, Outcome.REFUSED, status=status, operation=_OPERATION)

    async def _send_greeting(self, socket: str) -> None:
        greeting = {"message": "Connected", "socketId": socket}
        await self._engine.server.emit("connection_established", greeting, to=socket)

    async def _on_disconnect(self, socket: str, *_: object) -> None:
        self._rooms.exit(socket)
        self._engine.release(socket)
        if self._state.watch and socket in self._ends and not self._engine.is_connected(socket):
            self._state.watch.discard(*self._ends.pop(socket))

    async def _acknowledge(
        self,
        handler: _Handler,
        name: str,
        socket: str,
        payload: object = None,
        *_: object,
    ) -> _Acknowledgement:
        """Handle an event that a client emits; return the acknowledgement."""
        started = time.perf_counter()
        try:
            context = self._engine.context_of(socket)
        except NotAuthenticated as error:  # its credential has just ended
            return await self._refuse(socket, error)
        try:
            acknowledgement = await self._handle(handler, context, socket, payload)
        except Exception as error:  # noqa: BLE001 - a defect is acknowledged like any error
            self._log_end(name, context, started, error)
            known = error if isinstance(error, ServiceError) else InternalError()
            return await self._refuse(socket, known)
        self._log_end(name, context, started)
        return acknowledgement

    async def _handle(
        self, handler: _Handler, context: RequestContext, socket: str, payload: object
    ) -> _Acknowledgement:
        """Charge an event to its caller's limit, like a request, and call its handler."""
        limits = self._state.limits
        if limits is None:
            return await handler(context, socket, payload)
        if self._state.access is None:
            charge_address(limits, context)
        return await serve(
            limits, context, lambda charged: handler(charged, socket, payload), by_script=True
        )

    async def _refuse(self, socket: str, error: ServiceError) -> _Acknowledgement:
        """Emit an error and return it as the acknowledgement, for which not every client asks.

        Published clients listen for ``messageError``.
        """
        body = _body_of(error)
        emit = self._engine.server.emit
        await emit("error", body, to=socket)
        await emit("messageError", {"error": str(error)}, to=socket)
        return body

    async def _join(
        self, context: RequestContext, socket: str, payload: object
    ) -> _Acknowledgement:
        for permission in (Permission.EVENTS_READ, Permission.MESSAGES_READ):
            context.credential.require(permission)
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
        context.credential.require(Permission.MESSAGES_WRITE)
        try:
            sent = read_message(payload, self._decoder)
            if self._admission.is_full:
                raise Overloaded
            is_member = self._rooms.has(socket, sent.session_id)
            message = await self._store(context, socket, sent)
        except ValidationFailed as error:
            raise with_socket_names(error) from None
        acknowledgement = acknowledged(sent, message)
        await self._engine.server.emit("messageAck", acknowledgement, to=socket)
        if not is_member:
            await self._send_back(socket, sent, message)
        return {"success": True, **acknowledgement}

    async def _store(self, context: RequestContext, socket: str, sent: Sent) -> Message:
        message_id = new_message_id(os.urandom)
        if sent.client_message_id is not None:
            self._rooms.remember_sender(socket, sent.session_id, message_id, sent.client_message_id)
        self._admission.request_begins()
        try:
            message, _, _ = await context.sessions.send(
                sent.session_id, message_of(sent.message), message_id
            )
        except StoreUnavailable:
            raise  # the message may have been stored
        except ServiceError:
            self._rooms.forget_sender(sent.session_id, message_id)
            raise
        finally:
            self._admission.request_ends()
        return message

    async def _send_back(self, socket: str, sent: Sent, message: Message) -> None:
        """Send the message to a sender outside of the room, as the published server does."""
        event = {
            **broadcast(message, sent.session_id),
            "clientMessageId": sent.client_message_id,
        }
        await self._engine.server.emit("messageBroadcast", event, to=socket)

    async def _unreadable(self, _: RequestContext, __: str, reason: object) -> _Acknowledgement:
        raise InvalidJson(f"It is not JSON: {reason}")

    def _stop(self) -> None:
        self._stopping = asyncio.create_task(self._engine.close(), name="sockets stop")


def _body_of(error: ServiceError) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(error_body(error))
    return body
