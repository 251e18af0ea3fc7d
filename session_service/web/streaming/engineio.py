"""The transports of Socket.IO, polling and WebSocket: from aiohttp's requests to an ASGI server.

python-socketio could serve aiohttp's requests itself. Through ASGI every byte passes this module,
so that clients that do not read are cut off, packets that are too large or binary are refused, and
errors have the same form as in REST.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType, web

from session_service.domain.budgets import SOCKET_PACKET_BYTES, STREAM_KERNEL_BYTES
from session_service.domain.errors import ServiceError
from session_service.web.http.admission import Admission
from session_service.web.http.bodies import read_bytes
from session_service.web.http.connections import FAREWELL_SECONDS, held_open
from session_service.web.http.context import RequestContext
from session_service.web.http.errors import PayloadTooLarge, SocketRefused, error_response
from session_service.web.http.response import (
    REQUEST_ID_HEADER,
    BaseResponse,
    BytesResponse,
    TextResponse,
)
from session_service.web.streaming.incoming import Incoming

_POST_SECONDS = 10.0  # until the packets of one POST have been handled

# Packets that are binary or announce binary ones. The library buffers as many as are announced.
_BINARY = ("b", "45", "46")
_ONLY_TEXT = "Allowed: packets of text in UTF-8; no binary data."
_SEPARATOR = "\x1e"  # between the packets of a POST

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Event, Receive, Send], Awaitable[Any]]  # of ASGI; the first is its scope


class EngineIoResponse(BaseResponse):
    """The response of an ASGI application to a poll, a POST or a WebSocket.

    A poll waits for a packet; a WebSocket stays open until it is closed. Meanwhile the request does
    not count as one in flight.
    """

    __slots__ = ("_application", "_body", "_context")

    status = 200
    content_type = TextResponse.content_type

    def __init__(self, context: RequestContext, application: Application, body: bytes) -> None:
        self._context = context
        self._application = application
        self._body = body

    async def write(self) -> None:
        """Serve the request to its end."""
        request = self.request
        response: BytesResponse | None
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                response = await self._serve_websocket()
            else:
                response = await self._serve_http()
        except ServiceError as error:
            response = error_response(error)
        if response is None:
            self.keep_alive = False
            return
        response.start(request, self.request_id, self.request_fields, close=not self.keep_alive)
        await response.write()

    async def _serve_http(self) -> BytesResponse:
        request = self.request
        status, body = 400, b""

        async def receive() -> Event:
            return {"type": "http.request", "body": self._body}

        async def send(event: Event) -> None:
            nonlocal status, body
            status, body = event.get("status", status), event.get("body", body)

        # A poll ends by itself when a ping is due; a POST may wait for a poll that never comes.
        seconds = _POST_SECONDS if request.method == "POST" else None
        scope = _scope(self._context, request, "http", len(self._body))
        try:
            with held_open(request):
                async with asyncio.timeout(seconds):
                    await self._application(scope, receive, send)
        except TimeoutError:
            status = 400
        return error_response(SocketRefused()) if status != 200 else TextResponse(200, body)

    async def _serve_websocket(self) -> BytesResponse | None:
        """Serve a WebSocket until it is closed; return a response if it was refused."""
        request = self.request
        # Compression would take some 300 KB a client.
        websocket = web.WebSocketResponse(
            timeout=FAREWELL_SECONDS, compress=False, max_msg_size=SOCKET_PACKET_BYTES
        )
        if not websocket.can_prepare(request):
            return error_response(SocketRefused())
        websocket.headers[REQUEST_ID_HEADER] = self.request_id
        with held_open(request, STREAM_KERNEL_BYTES) as connection:
            incoming = Incoming(connection, self._context.state.admission.bodies)
            connection.when_received = incoming.arrived
            try:
                scope = _scope(self._context, request, "websocket")
                await self._application(
                    {**scope, "abort": connection.abort},
                    _receiver(websocket, incoming),
                    _sender(websocket, request),
                )
            finally:
                connection.when_received = None
                incoming.end()
        return None if websocket.prepared else error_response(SocketRefused())


def _receiver(websocket: web.WebSocketResponse, incoming: Incoming) -> Receive:
    """Return the ASGI ``receive`` of a WebSocket: it connects, sends text, and disconnects."""
    has_begun = False

    async def receive() -> Event:
        nonlocal has_begun
        if not has_begun:
            has_begun = True
            return {"type": "websocket.connect"}
        message = await websocket.receive()
        incoming.end()
        if message.type is WSMsgType.TEXT and not message.data.startswith(_BINARY):
            return {"type": "websocket.receive", "text": message.data}
        return {"type": "websocket.disconnect"}

    return receive


def _sender(websocket: web.WebSocketResponse, request: web.BaseRequest) -> Send:
    """Return the ASGI ``send`` of a WebSocket."""

    async def send(event: Event) -> None:
        if event["type"] == "websocket.accept":
            await websocket.prepare(request)
        elif websocket.prepared:
            if event["type"] == "websocket.send":
                await websocket.send_str(event["text"])
            else:
                await websocket.close()

    return send


async def read_packets(request: web.BaseRequest, admission: Admission) -> bytes:
    """Read the packets of a POST, e.g. ``40``, the one with which a client connects.

    Raises PayloadTooLarge, SocketRefused, RequestTimeout, BadRequest or Overloaded.
    """
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


def _scope(context: RequestContext, request: web.BaseRequest, kind: str, length: int = 0) -> Event:
    """Return the ASGI scope of a request, with two members of ours: ``context`` and ``sid``.

    That of a WebSocket has a third, ``abort``, which closes its connection at once.
    """
    headers = [pair for pair in request.raw_headers if pair[0].lower() != b"content-length"]
    return {
        "type": kind,
        "context": context,
        "method": request.method,
        "path": request.rel_url.path,
        "query_string": request.rel_url.raw_query_string.encode(),
        "sid": request.query.get("sid", ""),
        "headers": [*headers, (b"content-length", b"%d" % length)],
    }
