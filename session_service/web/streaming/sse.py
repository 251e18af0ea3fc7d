"""Streams of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Every event has its id. The first block and the heartbeats have the id of the position reached, so
that a client resumes from there even if it has received no event for long. Their name is
``position`` and their data ``{}``, because some clients parse the data of every block::

    retry: 1730
    id: 1764000000000-ff-18446744073709551615
    event: position
    data: {}

An EventSource gives up for good at any status but 200. So only a request that can never succeed is
refused; any other gets a stream that ends at once, with the time after which to come back.
"""

import asyncio
import time
from functools import lru_cache, partial

from aiohttp import web

from session_service.domain.budgets import (
    STREAM_KERNEL_BYTES,
    STREAM_OVERLOADED_SECONDS,
    STREAM_RETRY_SECONDS,
)
from session_service.domain.errors import RateLimited, ServiceError
from session_service.domain.event_types import LAST_TYPES
from session_service.domain.events import Event
from session_service.domain.times import jitter
from session_service.store.events.feed import FellBehindError, Reset, Subscription
from session_service.web.http.connections import (
    FAREWELL_SECONDS,
    Connection,
    connection_of,
    held_open,
)
from session_service.web.http.context import RequestContext
from session_service.web.http.errors import ERRORS, Overloaded
from session_service.web.http.response import (
    REQUEST_ID_HEADER,
    BaseResponse,
    encode,
    send,
    shared_head,
)

CONTENT_TYPE = "text/event-stream"

HEARTBEAT_SECONDS = 15.0
_EVENTS_A_WRITE = 32  # about 20 KB

_CACHING = "no-store, no-transform"  # else proxies that compress hold events back
_RESET = encode(
    {"message": "Earlier events were missed and are no longer available; read the sessions again"}
)
_POSITION = b"event: position\ndata: {}\n"
_SLOW = _POSITION + b": not read in time; reconnect with Last-Event-ID\n\n"
_STOPPING = _POSITION + b": the service stops; reconnect with Last-Event-ID\n\n"
_UNVERIFIED = (
    _POSITION + b": the credential cannot be verified now; reconnect with Last-Event-ID\n\n"
)
_EXPIRED = b"event: credential-expired\ndata: {}\n\n"  # without an id: that of the last event stays
# Statuses of requests that can never succeed; no EventSource makes requests for those from 413 on.
_FINAL = frozenset((400, 401, 403, 404, 405, 410, 413, 414, 415, 417, 431, 501, 505))


class EventStreamResponse(BaseResponse):
    """The events of a subscription, each written as it comes.

    The stream of a session ends after the session's last event. A client that does not read gets a
    last block that says so, and is cut off. For it the service holds no more than the last write,
    and references to 1,000 events that all subscribers share. When the credential of ``context``
    ends, the stream ends with an event that says so.
    """

    __slots__ = ("_context", "_last", "_subscription")

    status = 200
    content_type = CONTENT_TYPE

    def __init__(self, subscription: Subscription, context: RequestContext) -> None:
        self._subscription = subscription
        self._context = context
        self._last = b""  # the last block, once the credential has ended; nothing else follows

    async def write(self) -> None:
        """Write until the stream ends, the client goes, or it is cut off."""
        request, subscription = self.request, self._subscription
        self.keep_alive = False  # the end of the connection is the end of the stream
        try:
            if request.method == "HEAD":
                return await send(request, _head(self))
            with (
                held_open(request, STREAM_KERNEL_BYTES) as connection,
                self._context.ending(partial(self._end, connection)),
            ):
                connection.when_lost, connection.farewell = subscription.close, _SLOW
                await send(request, _head(self) + _opening(subscription))
                await self._write_events(request)
        except FellBehindError:
            connection_of(request).cut()
        finally:
            subscription.close()

    async def _write_events(self, request: web.BaseRequest) -> None:
        subscription = self._subscription
        delivery = self._context.state.measures.event_delivery["sse"]
        began = int(time.time() * 1000)  # in whole milliseconds, as the times of events
        has_begun = False
        while True:
            items = await subscription.get_batch(HEARTBEAT_SECONDS)
            for n in range(0, len(items), _EVENTS_A_WRITE):
                if self._last:
                    break
                batch = items[n : n + _EVENTS_A_WRITE]
                await send(request, b"".join(map(_frame, batch)))
                now = time.time()
                for item in batch:
                    if isinstance(item, Event) and item.at >= began:  # it is no replay
                        delivery.observe(now - item.at / 1000)
            if self._last:
                return await send(request, self._last)
            if not items and subscription.is_closed:
                return await send(request, _STOPPING)
            if not items:
                await send(request, b"id: %b\n%b\n" % (_id(subscription), _POSITION))
            elif subscription.filter.session_id is not None and _is_last(items[-1], has_begun):
                return None
            has_begun = True

    def _end(self, connection: Connection, has_expired: bool) -> None:
        """End the stream; a client that does not read the last block in time is cut off."""
        self._last = _EXPIRED if has_expired else _UNVERIFIED
        self._subscription.close()
        asyncio.get_running_loop().call_later(FAREWELL_SECONDS, connection.abort)


class EndedStreamResponse(BaseResponse):
    """A stream that ends at once: it gives the reason, and when to come back.

    It answers a request that failed with an error that may pass, such as ``StoreUnavailable``.
    Clients come back after a time drawn at random from the range ``seconds``, so that they do not
    come all at once.
    """

    __slots__ = ("_reason", "_retry_ms")

    status = 200
    content_type = CONTENT_TYPE

    def __init__(self, reason: str, seconds: tuple[float, float]) -> None:
        self._reason = reason
        self._retry_ms = _retry_ms(seconds)

    async def write(self) -> None:
        """Write the stream; raises ConnectionResetError if the client has gone."""
        self.keep_alive = False
        body = b"retry: %d\n%b: %b\n\n" % (self._retry_ms, _POSITION, self._reason.encode())
        await send(self.request, _head(self) + (b"" if self.request.method == "HEAD" else body))


def is_final(error: type[ServiceError]) -> bool:
    """Return whether a request for a stream that fails with this error can never succeed."""
    return ERRORS[error].status in _FINAL


def stream_refusal(error: ServiceError) -> EndedStreamResponse | None:
    """Return the response to a request for a stream that failed, or None if the error is final."""
    if is_final(type(error)):
        return None
    seconds = STREAM_RETRY_SECONDS
    if isinstance(error, RateLimited):
        seconds = (error.retry_after, error.retry_after + seconds[1])
    elif isinstance(error, Overloaded):
        seconds = STREAM_OVERLOADED_SECONDS
    return EndedStreamResponse(f"{error}; reconnect with Last-Event-ID", seconds)


def _head(stream: BaseResponse) -> bytes:
    """Return the head of a stream."""
    start = shared_head(stream.status, int(time.time()), stream.content_type, _CACHING)
    ends = (
        f"X-Accel-Buffering: no\r\n{REQUEST_ID_HEADER}: {stream.request_id}\r\n"
        f"{stream.request_fields}Connection: close\r\n\r\n"
    )
    return start + ends.encode("latin-1")


def _is_last(item: Event | Reset, has_begun: bool) -> bool:
    """Return whether a session's stream ends after an item.

    A gap ends a stream that has begun, because the session may have ended in the gap; the client's
    next request will show that.
    """
    return item.type in LAST_TYPES if isinstance(item, Event) else has_begun


def _opening(subscription: Subscription) -> bytes:
    """Return the first block of a stream: the time after which to come back, and the position."""
    retry_ms = _retry_ms(STREAM_RETRY_SECONDS)
    return b"retry: %d\nid: %b\n%b\n" % (retry_ms, _id(subscription), _POSITION)


def _retry_ms(seconds: tuple[float, float]) -> int:
    least, most = seconds
    return round(1000 * (least + (most - least) * jitter()))


def _id(subscription: Subscription) -> bytes:
    return str(subscription.position).encode()


def _frame(item: Event | Reset) -> bytes:
    if isinstance(item, Event):
        return _event_frame(item)
    return b"id: %b\nevent: reset\ndata: %b\n\n" % (str(item.position).encode(), _RESET)


@lru_cache(maxsize=1024)  # most events go to several subscribers
def _event_frame(event: Event) -> bytes:
    head = f"id: {event.id}\nevent: session.{event.type}\ndata: ".encode()
    return head + encode(event.cloud_event()) + b"\n\n"
