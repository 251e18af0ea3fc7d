"""Limits the size of a request's head, all header fields together.

aiohttp's parser limits the size of a field and the number of fields: 128 of 32 KiB are 4 MiB.
"""

from typing import Any

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

from session_service.domain.budgets import HEADERS_BYTES
from session_service.web.http.errors import HeadersTooLarge

_BETWEEN = len(": ") + len("\r\n")  # of a field's name, value and the next name
_receive = web.RequestHandler.data_received  # super() takes 0.1 us a request
_REFUSED = _ErrInfo(status=400, exc=HeadersTooLarge(HEADERS_BYTES), message="")


class BoundedHeads(web.RequestHandler):
    """aiohttp's protocol, which replaces a request whose head is too large by an error.

    It reads aiohttp's ``_request_count``, ``_upgraded`` and ``_payload_parser``, and writes its
    ``_messages`` (requests not begun) and ``_waiter``. Every byte received goes through
    ``data_received``; nearly all requests arrive whole, for which its first branch is enough.
    """

    __slots__ = ("_arriving", "_head_bytes", "_head_since", "_reads_no_more")

    def __init__(self, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._arriving: StreamReader = EMPTY_PAYLOAD  # the body of the last request
        self._head_bytes = 0  # of a head that is incomplete
        self._head_since = 0.0  # the event loop's time when that began to arrive, or 0
        self._reads_no_more = False

    def data_received(self, data: bytes) -> None:
        """Pass bytes to aiohttp, and count those of heads."""
        if self._reads_no_more:
            return
        count, arriving = self._request_count, self._arriving
        is_body = arriving is not EMPTY_PAYLOAD and not arriving.is_eof()
        _receive(self, data)
        if self._request_count != count:
            if len(data) > HEADERS_BYTES or self._head_bytes:
                self._check_heads(self._request_count - count)
            self._head_bytes, self._head_since = 0, 0.0
            self._arriving = self._messages[-1][1]
        elif is_body or self._upgraded or self._payload_parser is not None:
            self.more_received(len(data))
        else:
            self._head_bytes += len(data)
            if self._head_bytes > HEADERS_BYTES:
                self._reads_no_more = True
                self._messages.append((_REFUSED, EMPTY_PAYLOAD))
                if self._waiter is not None and not self._waiter.done():
                    self._waiter.set_result(None)
            self.head_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the last body, which refers to this protocol.

        Collecting the reference cycles of 450 lost connections a second takes pauses of 7 to 67 ms.
        """
        super().connection_lost(exc)
        self._arriving = EMPTY_PAYLOAD

    def more_received(self, count: int) -> None:
        """Handle ``count`` more bytes of a body or, after an upgrade, of a WebSocket."""

    def head_received(self) -> None:
        """Handle a part of a head that is still incomplete."""

    def _check_heads(self, new: int) -> None:
        for n in range(-new, 0):
            message = self._messages[n][0]
            if isinstance(message, RawRequestMessage) and _size(message) > HEADERS_BYTES:
                self._messages[n] = (_REFUSED, EMPTY_PAYLOAD)
                self._reads_no_more = True


def _size(message: RawRequestMessage) -> int:
    return sum(len(name) + len(value) + _BETWEEN for name, value in message.raw_headers)
