"""The transports of Socket.IO, polling and WebSocket: between aiohttp's requests and its server.

python-socketio speaks ASGI here, not aiohttp, so that every byte goes in and out through this file:
what does not read is cut, what is too large or binary is refused, and errors have our one shape.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType, web

from session_service.domain.budgets import SOCKET_PACKET_BYTES, STREAM_KERNEL_BYTES
from session_service.domain.errors import ServiceError
from session_service.web.http.admission import Admission
from session_service.web.http.connections import bound_kernel_buffer, connection_of
from session_service.web.http.decoding import read_bytes
from session_service.web.http.errors import PayloadTooLarge, SocketRefused, error_response
from session_service.web.http.response import REQUEST_ID_HEADER, Answer
from session_service.web.http.transfers import Transfers
from session_service.web.streaming.incoming import Incoming

_FAREWELL_SECONDS = 1.0  # for a client to answer that the connection is closed
_POSTED_SECONDS = 10.0  # for all that comes with one POST to be done

# Packets that are binary or announce it. The library would gather as many as a client announces.
_BINARY = ("b", "45", "46")
_ONLY_TEXT = "Allowed: packets of text in UTF-8; no binary data."
_SEPARATOR = "\x1e"  # between the packets of a POST

_Event = dict[str, Any]
# An ASGI application: takes a scope, and how to receive and send.
Application = Callable[
    [_Event, Callable[[], Awaitable[_Event]], Callable[[_Event], Awaitable[None]]], Awaitable[Any]
]


class SocketAnswer:
    """What the application does with a request, for as long as it takes; it is none in flight.

    A poll waits until there is something to tell; a WebSocket is open until it is closed.
    """

    __slots__ = (
        "_application",
        "_body",
        "_request",
        "_transfers",
        "browser_fields",
        "keep_alive",
        "request_id",
        "status",
    )

    def __init__(self, application: Application, body: bytes, transfers: Transfers) -> None:
        self.status = 200
        self.request_id = ""
        self.browser_fields = ""  # header lines, see BrowserPolicy.fields
        self.keep_alive: bool | None = None
        self._application = application
        self._body = body
        self._transfers = transfers
        self._request: web.BaseRequest | None = None

    async def prepare(self, request: web.BaseRequest) -> None:
        """Take the request that is answered."""
        self._request = request

    async def write_eof(self) -> None:
        """Serve the request to its end."""
        request = self._request
        if request is None or request.transport is None:
            raise ConnectionResetError
        with connection_of(request).holding():
            try:
                if request.headers.get("Upgrade", "").lower() == "websocket":
                    answer = await self._serve_websocket(request)
                else:
                    answer = await self._serve_http(request)
            except ServiceError as error:
                answer = error_response(error)
        if answer is None:
            self.keep_alive = False
            return
        answer.request_id = self.request_id
        answer.browser_fields = self.browser_fields
        answer.keep_alive = self.keep_alive
        await answer.prepare(request)
        self.keep_alive = answer.keep_alive
        await answer.write_eof()

    async def _serve_http(self, request: web.BaseRequest) -> Answer:
        status, body = 400, b""

        async def receive() -> _Event:
            return {"type": "http.request", "body": self._body}

        async def send(event: _Event) -> None:
            nonlocal status, body
            status, body = event.get("status", status), event.get("body", body)

        # A poll ends by itself, as a ping is due; a POST may wait for a poll that never comes.
        try:
            async with asyncio.timeout(_POSTED_SECONDS if request.method == "POST" else None):
                await self._application(_scope(request, "http", len(self._body)), receive, send)
        except TimeoutError:
            status = 400
        return error_response(SocketRefused()) if status != 200 else TextAnswer(200, body)

    async def _serve_websocket(self, request: web.BaseRequest) -> Answer | None:
        """Serve it; returns an answer where it was refused."""
        # Compression would take some 300 KB a client.
        websocket = web.WebSocketResponse(
            timeout=_FAREWELL_SECONDS, compress=False, max_msg_size=SOCKET_PACKET_BYTES
        )
        if not websocket.can_prepare(request):
            return error_response(SocketRefused())
        websocket.headers[REQUEST_ID_HEADER] = self.request_id
        has_begun = False

        async def receive() -> _Event:
            nonlocal has_begun
            if not has_begun:
                has_begun = True
                return {"type": "websocket.connect"}
            message = await websocket.receive()
            incoming.end()
            if message.type is WSMsgType.TEXT and not message.data.startswith(_BINARY):
                return {"type": "websocket.receive", "text": message.data}
            return {"type": "websocket.disconnect"}

        async def send(event: _Event) -> None:
            if event["type"] == "websocket.accept":
                await websocket.prepare(request)
            elif websocket.prepared:
                if event["type"] == "websocket.send":
                    await websocket.send_str(event["text"])
                else:
                    await websocket.close()

        if request.transport is None:
            raise ConnectionResetError
        bound_kernel_buffer(request.transport, STREAM_KERNEL_BYTES)
        incoming = Incoming(request.transport, self._transfers)
        connection_of(request).when_received = incoming.arrived
        try:
            await self._application(_scope(request, "websocket"), receive, send)
        finally:
            connection_of(request).when_received = None
            incoming.end()
        return None if websocket.prepared else error_response(SocketRefused())


class TextAnswer(Answer):
    """An answer of the polling transport."""

    def packed(self, **how: bool) -> bytes:
        """Write the answer as bytes."""
        return super().packed(**how).replace(b"application/json", b"text/plain; charset=UTF-8", 1)


async def read_packets(request: web.BaseRequest, admission: Admission) -> bytes:
    """Read what is posted; raises PayloadTooLarge, SocketRefused, RequestTimeout or BadRequest."""
    body = await read_bytes(request, admission, SOCKET_PACKET_BYTES)
    if len(body) > SOCKET_PACKET_BYTES:
        raise PayloadTooLarge(SOCKET_PACKET_BYTES)
    try:
        packets = body.decode().split(_SEPARATOR)
    except UnicodeDecodeError:
        raise SocketRefused(_ONLY_TEXT) from None
    if any(packet.startswith(_BINARY) for packet in packets):
        raise SocketRefused(_ONLY_TEXT)
    return body


def _scope(request: web.BaseRequest, kind: str, length: int = 0) -> _Event:
    headers = [pair for pair in request.raw_headers if pair[0].lower() != b"content-length"]
    return {
        "type": kind,
        "method": request.method,
        "path": request.rel_url.path,
        "query_string": request.rel_url.raw_query_string.encode(),
        "sid": request.query.get("sid", ""),
        "headers": [*headers, (b"content-length", b"%d" % length)],
    }
