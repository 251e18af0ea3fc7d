"""aiohttp's server with the limits of this service."""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from session_service.domain.budgets import (
    BODY_BYTES,
    CONNECTIONS,
    GRACE_SECONDS,
    HEADER_FIELDS,
    HEADERS_BYTES,
    HELD_SHARE,
    IDLE_SECONDS,
    RESERVED_CONNECTIONS,
    TARGET_BYTES,
)
from session_service.web.app import App
from session_service.web.http.connections import ConnectionTable
from session_service.web.http.protocol import HttpProtocol
from session_service.web.http.state import AppState

_LINGERING_SECONDS = 1.0  # a refused body is read for so long, so that its client gets to read


class Server(web.Server):
    """The server of one process. A handler runs to its end even if its client has gone.

    It has at most ``max_connections`` connections, and at most as many Socket.IO sockets. A new
    connection beyond that replaces the one that is idle longest. If all are busy, the new one
    serves probes only; if RESERVED_CONNECTIONS do so already, it gets a 503 and is closed. With
    ``metrics_of`` it is the server of METRICS_PORT, for the application of that other server.
    """

    def __init__(
        self,
        state: AppState,
        max_connections: int = CONNECTIONS,
        *,
        metrics_of: "Server | None" = None,
    ) -> None:
        self.admission = state.admission
        self._max_connections = max_connections
        self._connected = ConnectionTable(max_connections, GRACE_SECONDS)
        self._reserved = ConnectionTable(RESERVED_CONNECTIONS)
        handle: Any  # aiohttp wants its own Response
        if metrics_of is None:
            state.admission.max_held = int(max_connections * HELD_SHARE) or 1
            self.app = App(state, max_connections)
            handle = self.app.handle
            if state.tracing is not None:
                handle = state.tracing.of_requests(handle, self.app.target_of)
        else:
            self.app = metrics_of.app
            handle = self.app.handle_metrics
        self._options: dict[str, Any] = {
            "keepalive_timeout": IDLE_SECONDS,
            "lingering_time": _LINGERING_SECONDS,
            "access_log": None,
            "max_line_size": TARGET_BYTES,
            "max_field_size": HEADERS_BYTES,
            "max_headers": HEADER_FIELDS,
            "auto_decompress": False,  # a compressed body is refused, see check_codings
        }
        super().__init__(handle, request_factory=self._make_request)

    def __call__(self) -> web.RequestHandler:
        """Return the protocol for a new connection."""
        return HttpProtocol(self, self, loop=self._loop, **self._options)

    def admits(self, connection: HttpProtocol) -> bool:
        """Add a connection, in a full server for probes only; return false if there is no room."""
        if self._connected.is_full:
            self.admission.refused.connections.log(limit=self._max_connections)
        if self._connected.add(connection):
            return True
        connection.serve_only_probes(self.app.handle_probe)
        return self._reserved.add(connection)

    def has_lost(self, connection: HttpProtocol) -> None:
        """Remove a connection that has closed."""
        self._connected.discard(connection)
        self._reserved.discard(connection)
        self.admission.unread.end(connection)

    def has_connections(self) -> bool:
        """Return whether any client is connected."""
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
