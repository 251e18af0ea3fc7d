"""aiohttp's server, set up for this application."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from session_service.domain.budgets import (
    BODY_BYTES,
    CONNECTIONS,
    FIRST_REQUEST_SECONDS,
    GRACE_SECONDS,
    HEAD_SECONDS,
    HEADER_FIELDS,
    HEADERS_BYTES,
    HELD_SHARE,
    IDLE_SECONDS,
    KERNEL_BYTES,
    RESERVED_CONNECTIONS,
    TARGET_BYTES,
    UNREAD_SECONDS,
)
from session_service.domain.errors import ServiceError
from session_service.web.app import App
from session_service.web.http.connections import (
    FAREWELL_SECONDS,
    Connection,
    ConnectionTable,
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
from session_service.web.http.state import AppState

_LINGERING_SECONDS = 1.0  # a refused body is read on, so that the client comes to read the answer

_HEAD_ALLOWED = f"{HEAD_SECONDS:g} seconds from its first byte to its last."

log = logging.getLogger(__name__)


def _packed(error: ServiceError) -> bytes:
    """Return the response to a client whose request is not read; its connection closes."""
    return error_response(error).packed(secrets.token_hex(8))


class _Protocol(BoundedHeads):
    """aiohttp's protocol, with deadlines for requests and responses, and our form of errors.

    Of aiohttp's own it takes over the timer and the end of idle connections, and reads ``_waiter``
    (set while no request is under way), ``_messages`` (requests not begun) and ``_request_count``.
    tests/unit/test_private_names.py fails if a release of aiohttp changes them.
    """

    __slots__ = (
        "_is_refused",
        "_server",
        "_to_client",
        "_unread",
        "_unread_since",
        "farewell",
        "when_lost",
        "when_received",
    )

    def __init__(self, server: "Server", **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._is_refused = False
        self._to_client: asyncio.Transport | None = None  # also once aiohttp has let go of it
        self._unread = 0  # bytes
        self._unread_since = 0.0  # when the client last read something
        self.when_lost: Callable[[], None] | None = None
        self.when_received: Callable[[int], None] | None = None
        self.farewell = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._to_client = to_client = cast("asyncio.Transport", transport)
        if not self._server.admits(self):
            self._is_refused = True
            to_client.write(_packed(Overloaded()))
            to_client.close()
            return
        super().connection_made(transport)
        self._look_again_in(FIRST_REQUEST_SECONDS)
        # uvloop would write the answers of a turn at its end; at once, clients go on meanwhile.
        to_client.set_write_buffer_limits(high=0)
        bound_kernel_buffer(to_client, KERNEL_BYTES)

    def serve_only_probes(self, handler: Any) -> None:
        """Have all requests answered by another handler than the server's."""
        self._request_handler = handler

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.has_lost(self)
        if self.when_lost is not None:
            self.when_lost()
        if not self._is_refused:
            super().connection_lost(exc)

    def more_received(self, count: int) -> None:
        if self.when_received is not None:
            self.when_received(count)

    def head_received(self) -> None:
        if self._messages or self._waiter is None or self._waiter.done():
            self._head_since = 0.0
        elif not self._head_since:
            self._head_since = self._loop.time()
            self._look_again_in(self._deadline() - self._head_since)

    # A connection that waits for its client to ask

    @property
    def idle_since(self) -> float | None:
        """The event loop's time since which no request is under way; None while one is."""
        if self._waiter is None or self._waiter.done():
            return None
        return self._next_keepalive_close_time - self._keepalive_timeout

    def _look_again_in(self, seconds: float) -> None:
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        self._keepalive_handle = self._loop.call_later(seconds, self._process_keepalive)

    def _process_keepalive(self) -> None:
        """Close the connection if its client has been silent for too long, or look again later."""
        self._keepalive_handle = None
        if self._force_close or not self._keepalive:
            return
        left = self._deadline() - self._loop.time()
        if left > 0:
            self._look_again_in(left)
            return
        if self._head_since and self._to_client is not None:
            self._to_client.write(_packed(RequestTimeout("head", _HEAD_ALLOWED)))
        self.force_close()

    def _deadline(self) -> float:
        idle_since = self.idle_since
        if idle_since is None:
            return self._loop.time() + IDLE_SECONDS
        idle = idle_since + (IDLE_SECONDS if self._request_count else FIRST_REQUEST_SECONDS)
        return min(idle, self._head_since + HEAD_SECONDS) if self._head_since else idle

    # A connection that waits for its client to read: a Transfer, from when its buffer fills up

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_since = self._loop.time()
        self._unread = 0
        self._server.admission.unread.begin(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._server.admission.unread.end(self)

    def held(self) -> int:
        """Return how many bytes the client has not read."""
        return self._to_client.get_write_buffer_size() if self._to_client is not None else 0

    def is_stalled(self, now: float) -> bool:
        """Whether the client has read nothing for too long."""
        unread, self._unread = self._unread, self.held()
        if self._unread < unread:
            self._unread_since = now
        return now - self._unread_since > UNREAD_SECONDS

    def holding(self) -> AbstractContextManager[None]:
        """Count the connection as held by a stream or a socket within the block."""
        return self._server.admission.holding()

    def cut(self) -> None:
        """Close the connection of a client that does not read."""
        self._server.admission.refused.unread.log()
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
        """Close the connection at once, and drop what it has not sent."""
        if self._to_client is not None:
            abort(self._to_client)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Any:
        del message  # in aiohttp's signature, and not needed here
        if status == ERRORS[BadRequest].status:
            response = error_response(error_of(exc))
        else:
            if not isinstance(exc, ConnectionError):  # else the client has gone
                log.error("defect outside of a request", exc_info=exc)
            response = error_response(InternalError())
        response.start(request, secrets.token_hex(8), close=True)
        return response


if TYPE_CHECKING:  # mypy sees here that the cast in connection_of is right
    _connection: type[Connection] = _Protocol


class Server(web.Server):
    """The server of one process. A handler goes on when its client has gone.

    It has at most ``max_connections`` connections, and at most as many sockets of Socket.IO. In
    their place the ones that are idle longest are closed; if all are busy, a new one is taken for
    probes alone, and if there are enough of these it is answered 503 and closed.
    """

    def __init__(self, service: AppState, max_connections: int = CONNECTIONS) -> None:
        self.admission = service.admission
        self._max_connections = max_connections
        self._connected = ConnectionTable(max_connections, GRACE_SECONDS)
        self._reserved = ConnectionTable(RESERVED_CONNECTIONS)
        service.admission.max_held = int(max_connections * HELD_SHARE) or 1
        self._app = App(service, max_connections)
        self._options: dict[str, Any] = {
            "keepalive_timeout": IDLE_SECONDS,
            "lingering_time": _LINGERING_SECONDS,
            "access_log": None,
            "max_line_size": TARGET_BYTES,
            "max_field_size": HEADERS_BYTES,
            "max_headers": HEADER_FIELDS,
            "auto_decompress": False,  # a compressed body is refused, see check_codings
        }
        super().__init__(cast("Any", self._app.handle), request_factory=self._make_request)

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return _Protocol(self, loop=self._loop, **self._options)

    def admits(self, connection: _Protocol) -> bool:
        """Take a connection, if need be for probes alone; return false if there is no place."""
        if self._connected.is_full:
            self.admission.refused.connections.log(limit=self._max_connections)
        if self._connected.add(connection):
            return True
        connection.serve_only_probes(self._app.handle_probe)
        return self._reserved.add(connection)

    def has_lost(self, connection: _Protocol) -> None:
        """Forget a connection."""
        self._connected.discard(connection)
        self._reserved.discard(connection)
        self.admission.unread.end(connection)

    def has_connections(self) -> bool:
        """Whether a client is connected."""
        return bool(self._connected or self._reserved)

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            self._loop,
            client_max_size=BODY_BYTES,
        )
