"""aiohttp's server, set up for this application."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from session_service.web.app import App
from session_service.web.decoding import MAX_BODY_BYTES
from session_service.web.errors import ANSWERS, BadRequest, InternalError, Overloaded, error_answer
from session_service.web.service import Service

# aiohttp's default is an hour, and nothing else cuts a client that never finishes its headers.
_KEEPALIVE_SECONDS = 75.0
_LINGERING_SECONDS = 1.0  # a refused body is read on, so that the client comes to read the answer

log = logging.getLogger(__name__)


def _refusal() -> bytes:
    """Write what a connection is answered that is one too many."""
    answer = error_answer(Overloaded())
    answer.request_id = secrets.token_hex(8)
    answer.keep_alive = False
    return answer.packed()


class _Protocol(web.RequestHandler):
    """aiohttp's protocol, but for the form of what it answers to bytes that are no request."""

    __slots__ = ("_is_refused", "_server", "when_lost")

    def __init__(self, server: "Server", **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._is_refused = False
        self.when_lost: Callable[[], None] | None = None  # of who has to know at once

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._is_refused = self._server.is_full
        self._server.connections_open += 1
        if self._is_refused:
            cast("asyncio.Transport", transport).write(_refusal())
            transport.close()
            return
        super().connection_made(transport)
        # uvloop would write the answers of a turn at its end; at once, clients go on meanwhile.
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=0)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.connections_open -= 1
        if self.when_lost is not None:
            self.when_lost()
        if not self._is_refused:
            super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> Any:
        if status == ANSWERS[BadRequest].status:
            answer = error_answer(BadRequest())
        else:
            if not isinstance(exc, ConnectionError):  # else the client has gone
                log.error("defect outside of a request", exc_info=exc)
            answer = error_answer(InternalError())
        answer.request_id = secrets.token_hex(8)
        answer.keep_alive = False
        return answer


class Server(web.Server):
    """The server of one process. A handler goes on when its client has gone.

    Past ``max_connections`` a connection is answered 503 and closed; of Socket.IO there are as
    many sockets at most.
    """

    def __init__(self, service: Service, max_connections: int = 10_000) -> None:
        self._max_connections = max_connections
        self.connections_open = 0
        self._options: dict[str, Any] = {
            "keepalive_timeout": _KEEPALIVE_SECONDS,
            "lingering_time": _LINGERING_SECONDS,
            "access_log": None,
        }
        super().__init__(
            cast("Any", App(service, max_connections).handle), request_factory=_make_request
        )

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return _Protocol(self, loop=self._loop, **self._options)

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return self.connections_open >= self._max_connections

    def has_connections(self) -> bool:
        """Whether a client is connected."""
        return self.connections_open > 0


def _make_request(
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
        asyncio.get_running_loop(),
        client_max_size=MAX_BODY_BYTES,
    )
