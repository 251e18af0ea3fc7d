"""Socket.IO: rooms by session id, which are told what happens to the session.

Any node serves any socket: each follows the outbox for the sessions that its own sockets have
joined, so nothing has to be told from node to node. python-socketio is an extra.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from session_service.domain.errors import (
    ServiceError,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    ValidationFailed,
)
from session_service.domain.events import LAST_TYPES, Event, EventFilter
from session_service.domain.ids import shard_of_session
from session_service.domain.messages import Message
from session_service.domain.sessions import Session
from session_service.store.feed import FellBehindError, Subscription
from session_service.web.decoding import moment
from session_service.web.errors import InternalError, NotReady, Overloaded, error_body
from session_service.web.service import Service
from session_service.web.transports import MAX_PACKET_BYTES, SocketAnswer, read_packets

try:
    import socketio  # type: ignore[import-untyped]  # it has no types
except ModuleNotFoundError:
    socketio = None

PATH = "/socket.io/"

MAX_ROOMS = 100  # of a socket
MAX_UNREAD = 1000  # packets that may wait for a client to read them
_JOINING = 1  # the type of a message that asks to join
_TOGETHER = 100  # messages read at a time
_LONG_SECONDS = 3600.0
_AWAY_SECONDS = 0.5  # until a store that was away is asked again

# By the type of an event what is told to a room, and which of the event's data.
_TOLD: dict[str, tuple[str, tuple[str, ...]]] = {
    "expiring": ("sessionExpirationWarning", ("minutesRemaining",)),
    "expired": ("sessionExpired", ("expiredAt",)),
    "renewed": ("sessionRenewed", ("expiresAt", "renewalCount")),
    "ended": ("sessionEnded", ()),
}

log = logging.getLogger(__name__)
# The library tells at length, and with content, what clients do and do wrong.
_silent = logging.getLogger(f"{__name__}.library")
_silent.setLevel(logging.CRITICAL)


class _Room:
    """The sockets that have joined a session, and what they are told of."""

    def __init__(self, session_id: str, subscription: Subscription) -> None:
        self.session_id = session_id
        self.subscription = subscription
        self.members: set[str] = set()
        self.channel_id = ""
        self.following: asyncio.Task[None] | None = None  # once the session is known to be there


class Sockets:
    """The Socket.IO server of this process, with at most so many sockets.

    A socket that would miss something is closed, so that its client connects again, joins again and
    reads what it has missed: at a stop, where it does not read, where events were lost.
    """

    def __init__(self, service: Service, max_sockets: int) -> None:
        self._service = service
        self._max_sockets = max_sockets
        self._rooms: dict[str, _Room] = {}
        self._joined: dict[str, set[str]] = {}  # by socket the sessions that it has joined
        self._stopping: asyncio.Task[None] | None = None
        self._server = socketio.AsyncServer(
            async_mode="asgi",
            async_handlers=False,  # one thing at a time of a socket, in order
            logger=_silent,
            engineio_logger=_silent,
            cors_allowed_origins=[],  # the library checks nothing: BrowserPolicy does
            max_http_buffer_size=MAX_PACKET_BYTES,
            http_compression=False,
        )
        self._server.on("connect", self._connected)
        self._server.on("disconnect", self._disconnected)
        self._server.on("join", self._join)
        self._server.on("leave", self._leave)
        self._server.on("message", self._message)
        service.when_draining.append(self._stop)

    @staticmethod
    def are_available() -> bool:
        """Tell whether python-socketio is installed."""
        return socketio is not None

    async def handle(self, request: web.BaseRequest, _: str) -> SocketAnswer:
        """Take a request of one of the transports; raises ServiceError.

        A GET opens a socket or reads from it, so it is checked as a change is.
        """
        self._service.browsers.check_page(request.headers)
        if self._service.draining:
            raise NotReady
        if "sid" not in request.query and len(self._server.eio.sockets) >= self._max_sockets:
            raise Overloaded
        body = (
            await read_packets(request, self._service.admission)
            if request.method == "POST"
            else b""
        )
        return SocketAnswer(self._server.handle_request, body)

    async def _connected(self, socket: str, *_: object) -> None:
        self._joined.setdefault(socket, set())

    async def _disconnected(self, socket: str, *_: object) -> None:
        for session_id in self._joined.pop(socket, ()):
            self._leave_room(socket, session_id)
        connection = self._connection(socket)
        if connection is not None:
            connection.queue.put_nowait(None)  # ends a poll, which would wait on

    async def _join(self, socket: str, *given: object) -> dict[str, Any]:
        """Join a session; returns the acknowledgement."""
        try:
            session = await self._join_room(socket, _session_id(given))
        except ServiceError as error:
            return await self._refuse(socket, error)
        except Exception:  # a defect is answered like any error: no trace to the caller
            log.exception("defect in a socket")
            return await self._refuse(socket, InternalError())
        return {
            "success": True,
            "roomId": session.id,
            "sessionId": session.id,
            "channelId": session.id,
        }

    async def _leave(self, socket: str, *given: object) -> dict[str, Any]:
        """Leave a session, joined or not; returns the acknowledgement."""
        try:
            session_id = _session_id(given)
        except ServiceError as error:
            return await self._refuse(socket, error)
        self._joined.get(socket, set()).discard(session_id)
        self._leave_room(socket, session_id)
        return {"success": True, "roomId": session_id}

    async def _message(self, socket: str, *given: object) -> dict[str, Any]:
        """Join, as elizaOS's clients ask for it; the only message that is taken."""
        message = given[0] if given and isinstance(given[0], dict) else {}
        if message.get("type") != _JOINING:
            problem = f"must be {_JOINING}, to join; messages are sent by POST"
            return await self._refuse(socket, ValidationFailed("type", problem))
        return await self._join(socket, message.get("payload", message))

    async def _refuse(self, socket: str, error: ServiceError) -> dict[str, Any]:
        """Emit an error, for a client that wants no acknowledgement; returns that."""
        if isinstance(error, StoreUnavailable):
            self._service.admission.refused.store.log(reason=error.reason)
        body: dict[str, Any] = msgspec.to_builtins(error_body(error))
        await self._server.emit("error", body, to=socket)
        return body

    async def _join_room(self, socket: str, session_id: str) -> Session:
        if shard_of_session(session_id) is None:
            raise SessionNotFound
        joined = self._joined.setdefault(socket, set())
        if session_id not in joined and len(joined) >= MAX_ROOMS:
            raise ValidationFailed(
                "roomId", f"is one too many: a socket may be in {MAX_ROOMS} rooms, leave one first"
            )
        # What happens from now on is told, so that nothing falls between a look and the telling.
        if session_id not in self._rooms:
            subscription = await self._service.feed.subscribe(EventFilter(session_id=session_id))
            if session_id in self._rooms:  # another was quicker
                subscription.close()
            else:
                self._rooms[session_id] = _Room(session_id, subscription)
        room = self._rooms[session_id]
        room.members.add(socket)
        joined.add(session_id)
        try:
            session = await self._service.repository.get(session_id)
        except ServiceError:
            joined.discard(session_id)
            self._leave_room(socket, session_id)
            raise
        if self._joined.get(socket) is not joined:  # it has gone meanwhile
            self._leave_room(socket, session_id)
        elif self._rooms.get(session_id) is not room:  # so has the session
            raise SessionNotFound
        elif room.following is None:
            room.channel_id = session.id
            room.following = asyncio.create_task(self._follow(room), name="room")
        return session

    def _leave_room(self, socket: str, session_id: str) -> None:
        room = self._rooms.get(session_id)
        if room is not None:
            room.members.discard(socket)
            if not room.members:
                self._close(room)

    def _close(self, room: _Room) -> None:
        room.subscription.close()
        if self._rooms.get(room.session_id) is room:
            del self._rooms[room.session_id]

    async def _follow(self, room: _Room) -> None:
        """Tell a room what happens, until it is empty or its session is over."""
        is_over = False
        try:
            while not (is_over or room.subscription.is_closed):
                items = await room.subscription.take(_LONG_SECONDS)
                events = [item for item in items if isinstance(item, Event)]
                await self._tell(room, events)
                is_over = any(event.type in LAST_TYPES for event in events)
                if len(events) < len(items) and not is_over:
                    log.warning("sockets closed: events were lost")
                    break
        except FellBehindError:
            log.warning("sockets closed: messages were not read in time from the store")
        except Exception:  # a defect; its members are closed, connect and join again
            log.exception("defect in a room")
        finally:
            self._close(room)
            members = list(room.members)
            for socket in members:
                self._joined.get(socket, set()).discard(room.session_id)
            if not is_over:
                await self._drop(members)

    async def _tell(self, room: _Room, events: list[Event]) -> None:
        messages = await self._read(room, [event for event in events if event.type == "message"])
        for event in events:
            message = messages.get(event.data.get("messageId", ""))
            if message is not None:
                await self._emit(room, "messageBroadcast", _shown(message, room))
            elif event.type in _TOLD:
                name, fields = _TOLD[event.type]
                data = {field: event.data[field] for field in fields if field in event.data}
                await self._emit(room, name, {"sessionId": room.session_id, **data})

    async def _read(self, room: _Room, events: list[Event]) -> dict[str, Message]:
        """Read the messages of events; those of a session that is over have gone with it."""
        found: dict[str, Message] = {}
        times = [moment(event.data["createdAt"], "createdAt", up=False) or 0 for event in events]
        while times and not room.subscription.is_closed:
            part = times[:_TOGETHER]
            try:
                history = await self._service.repository.history(
                    room.session_id, limit=len(part), before=part[-1] + 1, after=part[0] - 1
                )
            except (SessionNotFound, SessionExpired):
                break
            except StoreUnavailable:
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            found.update((message.id, message) for message in history.messages)
            # A page can end before its limit. It has the newest of the range.
            oldest = history.messages[-1].created_at if history.has_more else part[0]
            times[:_TOGETHER] = [time for time in part if time < oldest]
        return found

    async def _emit(self, room: _Room, name: str, data: dict[str, Any]) -> None:
        """Tell a room; who has left more unread than may be is cut."""
        slow = [socket for socket in room.members if self._unread(socket) >= MAX_UNREAD]
        if slow:
            log.info("sockets cut: their clients are too slow", extra={"sockets": len(slow)})
            await self._drop(slow)
        if room.members:
            await self._server.emit(name, data, to=list(room.members))

    def _unread(self, socket: str) -> int:
        connection = self._connection(socket)
        return 0 if connection is None else int(connection.queue.qsize())

    def _connection(self, socket: str) -> Any:
        return self._server.eio.sockets.get(self._server.manager.eio_sid_from_sid(socket, "/"))

    async def _drop(self, sockets: Iterable[str]) -> None:
        """Close sockets, whose clients connect again then, as they do not when told to go."""
        for socket in sockets:
            connection = self._connection(socket)
            if connection is not None:
                await _close(connection)

    def _stop(self) -> None:
        self._stopping = asyncio.create_task(self._close_all(), name="sockets stop")

    async def _close_all(self) -> None:
        for connection in list(self._server.eio.sockets.values()):
            await _close(connection)
        await self._server.shutdown()


async def _close(connection: Any) -> None:
    """Close an Engine.IO socket at once; its own way waits until the client has read everything."""
    await connection.close(wait=False, abort=True)
    while not connection.queue.empty():
        connection.queue.get_nowait()
    connection.queue.put_nowait(None)  # ends who writes


def _session_id(given: tuple[object, ...]) -> str:
    """Return the session that a client names, as ``roomId`` or ``channelId``, or alone."""
    named = given[0] if given else None
    if isinstance(named, dict):
        named = named.get("roomId") or named.get("channelId")
    if not isinstance(named, str):
        raise ValidationFailed("roomId", "must be the id of a session")
    return named


def _shown(message: Message, room: _Room) -> dict[str, Any]:
    shown = {
        "id": message.id,
        "senderId": message.author_id,
        "isAgent": message.is_agent,
        "text": message.content,
        "sessionId": room.session_id,
        "roomId": room.session_id,
        "channelId": room.channel_id,
        "createdAt": message.created_at,
        "metadata": msgspec.json.decode(message.metadata),
    }
    if message.attachments is not None:
        shown["attachments"] = msgspec.json.decode(message.attachments)
    return shown
