"""The event streams, which go on where they were when their connection breaks."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Self

import aiohttp
import msgspec
from msgspec import UNSET, Struct

from session_service.api.base import Request
from session_service.api.events import CloudEvent, StreamEvents, StreamSessionEvents
from session_service.client.errors import (
    ConnectionFailed,
    SessionServiceError,
    UnexpectedResponse,
)
from session_service.client.resource import Resource
from session_service.client.retries import delay, passes
from session_service.client.sse import Block, Blocks
from session_service.client.transport import Transport, operation, path_of
from session_service.domain.event_types import LAST_TYPES

_SILENCE_SECONDS = 45.0  # the service sends its position every 15 s

_LAST = frozenset(f"session.{name}" for name in LAST_TYPES)

# Called with None when a stream has its connection, and with the reason when it has lost it.
OnConnection = Callable[[SessionServiceError | None], object]


class Reset(Struct, frozen=True):
    """Some events are missing here: read the sessions again. New events follow."""

    id: str
    type: ClassVar[str] = "reset"
    data: ClassVar[Mapping[str, Any]] = MappingProxyType({})  # as events have, but empty


class EventStream:
    """Events, in one order. Only a credential or a filter that is refused ends the stream.

    A loop connects when it begins. ``async with`` connects before, so that the stream has all that
    happens in its block::

        async with service.events.follow(session_id=session_id) as events:
            await service.messages.send(session_id, "Hello")
            async for event in events: ...

    ``position`` is the id from which to go on: keep it, and pass it as ``last_event_id`` to a later
    stream. A loop that has ended early goes on from there, too, if it is begun again.
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        query: Request,
        last_event_id: str | None,
        *,
        give_up_after: float | None,
        on_connection: OnConnection | None,
    ) -> None:
        self.position = last_event_id
        self._transport = transport
        self._path = path
        self._query = query
        self._give_up_after = give_up_after
        self._on_connection = on_connection
        self._is_connected = False
        self._retry: float | None = None  # seconds until the next connection, from the stream
        self._opened: AsyncGenerator[CloudEvent | Reset | None, None] | None = None  # by begin()
        self._has_begun = False
        self._is_over = False
        self._failures = 0
        self._last_read = 0.0

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.aclose()
            self._opened = None

    async def begin(self) -> None:
        """Connect, and return when the stream has its position; a loop goes on from there.

        Raises the reason if it cannot begin, like a loop.
        """
        if self._opened is None:
            items = self._items()
            await anext(items, None)
            self._opened = items

    def __aiter__(self) -> AsyncIterator[CloudEvent | Reset]:
        return self._events()

    async def _events(self) -> AsyncGenerator[CloudEvent | Reset, None]:
        items = self._opened or self._items()
        self._opened = None
        async with aclosing(items):
            async for item in items:
                if item is not None:
                    yield item

    async def _items(self) -> AsyncGenerator[CloudEvent | Reset | None, None]:
        """Yield the events, and None for each other block that has a position."""
        self._last_read = time.monotonic()
        while not self._is_over:
            self._retry = None
            stream = await self._transport.open_stream(
                self._path, self._query, self.position, _SILENCE_SECONDS
            )
            if isinstance(stream, SessionServiceError):
                failure = stream
            else:
                failure = ConnectionFailed(f"the stream of {self._transport.url} ended")
                async with stream:
                    blocks = Blocks()
                    while piece := await _read(stream):
                        for block in blocks.feed(piece):
                            item = self._item(block)
                            if item is not None or block.id:
                                yield item
            if not self._is_over:
                self._check(failure)
                self._note_connection(failure)
                wait = delay(failure, self._failures) if self._retry is None else self._retry
                self._failures += 1
                await asyncio.sleep(wait)

    def _item(self, block: Block) -> CloudEvent | Reset | None:
        """Note the position and the time to wait, and return the event of a block if it has one."""
        if block.retry.isdecimal():
            self._retry = int(block.retry) / 1000
        if block.id:  # a stream that ends at once has none
            self.position = block.id
            self._has_begun = True
            self._failures = 0
            self._last_read = time.monotonic()
            self._note_connection(None)
        if block.event == "reset":
            return Reset(block.id)
        if not block.event.startswith("session."):
            return None
        try:
            event = msgspec.json.decode(block.data, type=CloudEvent)
        except msgspec.MsgspecError:
            raise UnexpectedResponse("an event of the stream cannot be read", 200) from None
        of_one = isinstance(self._query, StreamSessionEvents)
        self._is_over = of_one and event.type in _LAST
        return event

    def _note_connection(self, failure: SessionServiceError | None) -> None:
        """Call ``on_connection`` if the connection is a new one, or is lost."""
        if self._is_connected is (failure is not None):
            self._is_connected = failure is None
            if self._on_connection is not None:
                self._on_connection(failure)

    def _check(self, failure: SessionServiceError) -> None:
        """Raise a failure that will not pass, or that has lasted for too long."""
        if not passes(failure):
            raise failure
        away = time.monotonic() - self._last_read
        if self._give_up_after is not None and away >= self._give_up_after:
            raise failure
        if not self._has_begun and self._failures >= self._transport.max_retries:
            raise failure


class Events(Resource):
    """``service.events``: follow the events of one session, or of many."""

    @operation("streamEvents", "streamSessionEvents")
    def follow(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        types: Sequence[str] = (),
        last_event_id: str | None = None,
        give_up_after: float | None = None,
        on_connection: OnConnection | None = None,
    ) -> EventStream:
        """Follow the events from now on, or those after ``last_event_id``.

        ::

            async for event in service.events.follow(user_id=user, types=["expiring", "expired"]):
                if event.type == "reset":
                    ...  # some events are missing: read the sessions again

        The stream of one session ends after its last event; it raises SessionNotFound or
        SessionExpired if the session is over. A stream that has begun connects again for as long as
        it takes, without a gap or a repeat; with ``give_up_after``, in seconds, it raises the
        reason after that time. A stream that cannot begin raises it after ``max_retries``.
        ``on_connection`` is called with the reason when the connection is lost, and with None when
        the stream has one, also the first.
        """
        query: Request
        if session_id is None:
            path = path_of("events")
            query = StreamEvents(
                user_id=UNSET if user_id is None else user_id,
                agent_id=UNSET if agent_id is None else agent_id,
                type=[*types],
            )
        elif user_id is not None or agent_id is not None or types:
            raise ValueError("session_id selects one session: leave out the other filters")
        else:
            path, query = path_of("sessions", session_id, "events"), StreamSessionEvents()
        return EventStream(
            self._transport,
            path,
            query,
            last_event_id,
            give_up_after=give_up_after,
            on_connection=on_connection,
        )


async def _read(stream: aiohttp.ClientResponse) -> bytes:
    """Return the next bytes of a stream; none if it has ended or broken."""
    try:
        return await stream.content.readany()
    except (TimeoutError, aiohttp.ClientError, OSError):
        return b""
