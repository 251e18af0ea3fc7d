"""aiohttp's protocol for one connection, with deadlines and with our form of errors."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, cast

from aiohttp import web

from session_service.domain.budgets import (
    FIRST_REQUEST_SECONDS,
    HEAD_SECONDS,
    IDLE_SECONDS,
    KERNEL_BYTES,
    UNREAD_SECONDS,
)
from session_service.domain.errors import ServiceError
from session_service.web.http.admission import Admission
from session_service.web.http.connections import (
    FAREWELL_SECONDS,
    Connection,
    abort,
    bound_kernel_buffer,
)
from session_service.web.http.errors import (
    ERRORS,
    BadRequest,
    InternalError,
    Overloaded,
    RequestTimeout,
    error_response,
)
from session_service.web.http.heads import BoundedHeads
from session_service.web.http.malformed import error_of

_HEAD_ALLOWED = f"{HEAD_SECONDS:g} seconds from its first byte to its last."

log = logging.getLogger(__name__)


class Host(Protocol):
    """The server, as its connections see it."""

    admission: Admission

    def admits(self, connection: "HttpProtocol") -> bool:
        """Add a connection, in a full server for probes only; return false if there is no room."""

    def has_lost(self, connection: "HttpProtocol") -> None:
        """Remove a connection that has closed."""


class HttpProtocol(BoundedHeads):
    """One connection: a ``Connection`` for its responses, and a ``Transfer`` while it is full.

    It takes over aiohttp's timer for idle connections, and reads ``_waiter`` (set while no request
    is in flight), ``_messages`` (requests not begun) and ``_request_count``.
    tests/unit/test_private_names.py fails if a release of aiohttp changes them.
    """

    __slots__ = (
        "_host",
        "_is_refused",
        "_to_client",
        "_unread",
        "_unread_since",
        "farewell",
        "when_lost",
        "when_received",
    )

    def __init__(self, server: web.Server, host: Host, **options: Any) -> None:
        super().__init__(server, **options)
        self._host = host
        self._is_refused = False
        self._to_client: asyncio.Transport | None = None  # kept after aiohttp has dropped it
        self._unread = 0  # bytes
        self._unread_since = 0.0  # the event loop's time when the client last read something
        self.when_lost: Callable[[], None] | None = None
        self.when_received: Callable[[int], None] | None = None
        self.farewell = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve the connection, or refuse it with a 503."""
        self._to_client = to_client = cast("asyncio.Transport", transport)
        if not self._host.admits(self):
            self._is_refused = True
            to_client.write(_packed(Overloaded()))
            to_client.close()
            return
        super().connection_made(transport)
        self._check_again_in(FIRST_REQUEST_SECONDS)
        # By default uvloop writes all responses at the end of a turn of the event loop. With this
        # limit it writes each at once, and its client goes on during the rest of the turn.
        to_client.set_write_buffer_limits(high=0)
        bound_kernel_buffer(to_client, KERNEL_BYTES)

    def serve_only_probes(self, handler: Any) -> None:
        """Pass all requests to ``handler`` instead of the server's own."""
        self._request_handler = handler

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the response that is being written, and release the connection."""
        self._host.has_lost(self)
        if self.when_lost is not None:
            self.when_lost()
        if not self._is_refused:
            super().connection_lost(exc)

    def more_received(self, count: int) -> None:
        """Pass the number on to ``when_received``."""
        if self.when_received is not None:
            self.when_received(count)

    def head_received(self) -> None:
        """Start the deadline of a head, unless a request before it is in flight."""
        if self._messages or self._waiter is None or self._waiter.done():
            self._head_since = 0.0
        elif not self._head_since:
            self._head_since = self._loop.time()
            self._check_again_in(self._deadline() - self._head_since)

    # Deadlines for the next request, while none is in flight

    @property
    def idle_since(self) -> float | None:
        """The event loop's time since when no request is in flight; None while one is."""
        if self._waiter is None or self._waiter.done():
            return None
        return self._next_keepalive_close_time - self._keepalive_timeout

    def _check_again_in(self, seconds: float) -> None:
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        self._keepalive_handle = self._loop.call_later(seconds, self._process_keepalive)

    def _process_keepalive(self) -> None:
        """Close the connection if its client has been silent for too long, or check again later."""
        self._keepalive_handle = None
        if self._force_close or not self._keepalive:
            return
        left = self._deadline() - self._loop.time()
        if left > 0:
            self._check_again_in(left)
            return
        if self._head_since and self._to_client is not None:
            self._host.admission.refused.late.log()
            self._to_client.write(_packed(RequestTimeout("head", _HEAD_ALLOWED)))
        self.force_close()

    def _deadline(self) -> float:
        idle_since = self.idle_since
        if idle_since is None:
            return self._loop.time() + IDLE_SECONDS
        idle = idle_since + (IDLE_SECONDS if self._request_count else FIRST_REQUEST_SECONDS)
        return min(idle, self._head_since + HEAD_SECONDS) if self._head_since else idle

    # A Transfer, from the moment the transport's buffer is full until the client has read

    def pause_writing(self) -> None:
        """Watch the client: the transport's buffer is full."""
        super().pause_writing()
        self._unread_since = self._loop.time()
        self._unread = 0
        self._host.admission.unread.begin(self)

    def resume_writing(self) -> None:
        """Stop watching the client: it has read."""
        super().resume_writing()
        self._host.admission.unread.end(self)

    def held(self) -> int:
        """Return the number of bytes that the client has not read."""
        return self._to_client.get_write_buffer_size() if self._to_client is not None else 0

    def is_stalled(self, now: float) -> bool:
        """Return whether the client has read nothing for UNREAD_SECONDS."""
        unread, self._unread = self._unread, self.held()
        if self._unread < unread:
            self._unread_since = now
        return now - self._unread_since > UNREAD_SECONDS

    def holding(self) -> AbstractContextManager[None]:
        """Count the connection as held by a stream or a socket within the block."""
        return self._host.admission.holding()

    def cut(self) -> None:
        """Close the connection because its client does not read; ``farewell`` is written first."""
        self._host.admission.refused.unread.log()
        to_client = self._to_client
        if to_client is None:
            return
        if self.farewell and not to_client.is_closing():
            to_client.write(self.farewell)
            to_client.close()
            self._loop.call_later(FAREWELL_SECONDS, abort, to_client)
        else:
            abort(to_client)

    def abort(self) -> None:
        """Close the connection at once, and drop unsent bytes."""
        if self._to_client is not None:
            abort(self._to_client)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Any:
        """Return the response to bytes that are not HTTP, or to a defect of aiohttp or of ours."""
        del message  # in aiohttp's signature, and not needed here
        if status == ERRORS[BadRequest].status:
            self._host.admission.refused.malformed.log()
            response = error_response(error_of(exc))
        else:
            if not isinstance(exc, ConnectionError):  # else the client has gone
                log.error("defect outside of a request", exc_info=exc)
            response = error_response(InternalError())
        response.start(request, secrets.token_hex(8), close=True)
        return response


def _packed(error: ServiceError) -> bytes:
    """Return the response to a request that is not read; its connection closes."""
    return error_response(error).packed(secrets.token_hex(8))


if TYPE_CHECKING:  # mypy sees here that the cast in connection_of is right
    _connection: type[Connection] = HttpProtocol
