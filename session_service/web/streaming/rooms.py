"""Rooms: the sockets that have joined a session, and the events that they receive.

Any node serves any socket: each follows the outbox for the sessions that its own sockets have
joined, so nodes do not communicate with each other.
"""

import asyncio
import logging
import time
from typing import Any

from session_service.domain.budgets import (
    EXPECTED_BROADCASTS,
    ROOMS,
    SOCKET_SPARED_BYTES,
    SOCKET_UNREAD_BYTES,
    SOCKET_UNREAD_PACKETS,
)
from session_service.domain.errors import (
    RecordUnreadable,
    ServiceError,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    ValidationFailed,
)
from session_service.domain.event_types import (
    LAST_TYPES,
    EndedDetails,
    ExpiredDetails,
    ExpiringDetails,
    MessageDetails,
    RenewedDetails,
)
from session_service.domain.events import Event, EventFilter
from session_service.domain.ids import shard_of_session
from session_service.domain.messages import Message
from session_service.domain.sessions import Session
from session_service.logs import Throttled
from session_service.store.availability import Availability
from session_service.store.events.feed import FellBehindError, Subscription
from session_service.web.http.context import RequestContext
from session_service.web.http.state import AppState
from session_service.web.streaming.engine import Engine
from session_service.web.streaming.messages import broadcast, names_of

_PAGE = 100  # messages read at a time
_LONG_SECONDS = 3600.0

# The name under which rooms receive an event, and the members of its data that they receive.
_NAMES: dict[str, tuple[str, tuple[str, ...]]] = {
    ExpiringDetails.type: ("sessionExpirationWarning", ("minutesRemaining",)),
    ExpiredDetails.type: ("sessionExpired", ("expiredAt",)),
    RenewedDetails.type: ("sessionRenewed", ("expiresAt", "renewalCount")),
    EndedDetails.type: ("sessionEnded", ()),
}

log = logging.getLogger(__name__)


class _Room:
    def __init__(self, session_id: str, subscription: Subscription) -> None:
        self.session_id = session_id
        self.subscription = subscription
        self.members: set[str] = set()
        self.following: asyncio.Task[None] | None = None  # set once the session was found
        # By the message's id, the socket that sent it and its client's own id of it.
        self.senders: dict[str, tuple[str, str]] = {}


class Rooms:
    """The rooms of this process's sockets.

    A socket that would miss events is closed, so that its client reconnects, joins again and reads
    the history: if the process stops, if its client does not read, and if events were lost.
    """

    def __init__(self, state: AppState, engine: Engine) -> None:
        self._state = state
        self._engine = engine
        self._store = Availability("sockets")
        self._lost = Throttled(log, "sockets closed: events were lost")
        self._late = Throttled(log, "sockets closed: messages were not read in time from the store")
        self._unreadable = Throttled(log, "a room's messages cannot be read")
        self._slow = Throttled(log, "sockets cut: their clients are too slow", logging.INFO)
        self._delivery = state.measures.event_delivery["socketio"]
        self._rooms: dict[str, _Room] = {}
        self._joined: dict[str, set[str]] = {}  # sessions by socket

    def enter(self, socket: str) -> None:
        """Add a new socket, which is in no room yet."""
        self._joined.setdefault(socket, set())

    def exit(self, socket: str) -> None:
        """Remove a closed socket from its rooms."""
        for session_id in self._joined.pop(socket, ()):
            self._leave(socket, session_id)

    def leave(self, socket: str, session_id: str) -> None:
        """Remove a socket from the room of a session; nothing happens if it is not a member."""
        self._joined.get(socket, set()).discard(session_id)
        self._leave(socket, session_id)

    def has(self, socket: str, session_id: str) -> bool:
        """Return whether a socket has joined a session."""
        return session_id in self._joined.get(socket, ())

    def remember_sender(
        self, socket: str, session_id: str, message_id: str, client_id: str
    ) -> None:
        """Remember the sender of a message, so that its broadcast to that socket has ``client_id``.

        The client then replaces the message that it shows already. Other sockets do not receive
        the client's id: for them the message is new. Nothing is remembered of a socket outside of
        the room, which may be a stranger's.
        """
        room = self._rooms.get(session_id)
        if room is None or socket not in room.members:
            return
        if len(room.senders) >= EXPECTED_BROADCASTS:
            del room.senders[next(iter(room.senders))]
        room.senders[message_id] = (socket, client_id)

    def forget_sender(self, session_id: str, message_id: str) -> None:
        """Undo ``remember_sender`` for a message that was not stored."""
        room = self._rooms.get(session_id)
        if room is not None:
            room.senders.pop(message_id, None)

    async def join(self, context: RequestContext, socket: str, session_id: str) -> Session:
        """Add a socket to the room of a session; raises ServiceError."""
        if shard_of_session(session_id) is None:
            raise SessionNotFound
        joined = self._joined.setdefault(socket, set())
        if session_id not in joined and len(joined) >= ROOMS:
            raise ValidationFailed(
                "channelId", f"is one too many: a socket may be in {ROOMS} rooms, leave one first"
            )
        if context.credential.is_limited:
            # A room passes events on before the session is read below: not to a stranger. That one
            # waits as long as for an unknown session, also if the room is open.
            await context.sessions.get(session_id)
        # The subscription starts before the session is read, so no event falls between the two.
        if session_id not in self._rooms:
            subscription = await self._state.feed.subscribe(EventFilter(session_id=session_id))
            if session_id in self._rooms:  # another socket opened it meanwhile
                subscription.close()
            else:
                self._rooms[session_id] = _Room(session_id, subscription)
        room = self._rooms[session_id]
        room.members.add(socket)
        joined.add(session_id)
        try:
            session = await context.sessions.get(session_id)
        except ServiceError:
            joined.discard(session_id)
            self._leave(socket, session_id)
            raise
        if self._joined.get(socket) is not joined:  # the socket has been closed meanwhile
            self._leave(socket, session_id)
        elif self._rooms.get(session_id) is not room:  # the session has ended meanwhile
            raise SessionNotFound
        elif room.following is None:
            room.following = asyncio.create_task(self._follow(room), name="room")
        return session

    def _leave(self, socket: str, session_id: str) -> None:
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
        """Send events to a room until it is empty or its session is over."""
        is_over = False
        try:
            while not (is_over or room.subscription.is_closed):
                items = await room.subscription.get_batch(_LONG_SECONDS)
                events = [item for item in items if isinstance(item, Event)]
                await self._send_events(room, events)
                is_over = any(event.type in LAST_TYPES for event in events)
                if len(events) < len(items) and not is_over:
                    self._lost.log()
                    break
        except FellBehindError:
            self._late.log()
        except Exception:  # a defect: the members are closed, reconnect and join again
            log.exception("defect in a room")
        finally:
            self._close(room)
            members = list(room.members)
            for socket in members:
                self._joined.get(socket, set()).discard(room.session_id)
            if not is_over:
                await self._engine.drop(members)

    async def _send_events(self, room: _Room, events: list[Event]) -> None:
        left = sum(isinstance(event.details, MessageDetails) for event in events)
        page: dict[str, Message] | None = {}
        for event in events:
            details = event.details
            if isinstance(details, MessageDetails):
                if page is not None and details.message_id not in page:
                    page = await self._page(room, details.created_at, left)
                left -= 1
                message = None if page is None else page.pop(details.message_id, None)
                if message is not None:
                    await self._send_message(room, message)
            elif event.type in _NAMES:
                name, members = _NAMES[event.type]
                data = {member: value for member, value in event.data.items() if member in members}
                await self._send(room, name, {**names_of(room.session_id), **data})
            self._delivery.observe(time.time() - event.at / 1000)

    async def _page(self, room: _Room, since: int, count: int) -> dict[str, Message] | None:
        """Read a page of messages from a time on, in epoch milliseconds; return them by id.

        Returns None if they cannot be read, e.g. because they were deleted with the session. It
        reads for all members, so not in the scope of one: each was checked when it joined.
        """
        while not room.subscription.is_closed:
            try:
                history = await self._state.repository.history(
                    room.session_id, limit=min(count, _PAGE), after=since - 1
                )
            except (SessionNotFound, SessionExpired):
                break
            except RecordUnreadable:
                self._unreadable.log(room=room.session_id)
                break
            except StoreUnavailable as error:
                await self._store.wait_after(error)
                continue
            self._store.answered()
            return {message.id: message for message in history.messages}
        return None

    async def _send_message(self, room: _Room, message: Message) -> None:
        event = broadcast(message, room.session_id)
        sender, client_id = room.senders.pop(message.id, ("", ""))
        if sender in room.members:
            to_sender = {**event, "clientMessageId": client_id}
            await self._send(room, "messageBroadcast", to_sender, [sender])
        await self._send(
            room,
            "messageBroadcast",
            event,
            [socket for socket in room.members if socket != sender],
        )

    async def _send(
        self, room: _Room, name: str, data: dict[str, Any], to: list[str] | None = None
    ) -> None:
        """Send an event to a room or to some of its members, and close those that do not read."""
        sockets = list(room.members) if to is None else to
        slow = [socket for socket in sockets if self._is_slow(socket)]
        if slow:
            self._slow.log(sockets=len(slow))
            await self._engine.drop(slow)
        remaining = [socket for socket in sockets if socket in room.members]
        if remaining:
            await self._engine.server.emit(name, data, to=remaining)

    def _is_slow(self, socket: str) -> bool:
        packets, size = self._engine.unread(socket)
        allowed = SOCKET_SPARED_BYTES if self._engine.is_full else SOCKET_UNREAD_BYTES
        return packets >= SOCKET_UNREAD_PACKETS or size >= allowed
