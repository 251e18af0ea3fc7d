"""Messages that arrive on WebSockets, bounded as bodies are: together, and in time."""

import asyncio

from session_service.domain.budgets import BODY_SECONDS, SOCKET_WATCHED_BYTES
from session_service.web.http.connections import Connection
from session_service.web.http.transfers import Transfers


class Incoming:
    """What has arrived on one WebSocket since its last whole message.

    It is a Transfer once that is more than a small message: the others cost no bookkeeping.
    """

    def __init__(self, connection: Connection, transfers: Transfers) -> None:
        self._connection = connection
        self._transfers = transfers
        self._bytes = 0
        self._since: float | None = None  # the event loop's time from which it is watched

    def arrived(self, size: int) -> None:
        """Count bytes that have arrived."""
        self._bytes += size
        if self._since is None and self._bytes > SOCKET_WATCHED_BYTES:
            self._since = asyncio.get_running_loop().time()
            self._transfers.begin(self)

    def end(self) -> None:
        """Begin anew: a message is whole, or the WebSocket is closed."""
        self._bytes = 0
        if self._since is not None:
            self._since = None
            self._transfers.end(self)

    def held(self) -> int:
        """Return how many bytes of a message have arrived."""
        return self._bytes

    def is_stalled(self, now: float) -> bool:
        """Whether the message takes too long."""
        return self._since is not None and now - self._since > BODY_SECONDS

    def cut(self) -> None:
        """Close the connection."""
        self._connection.abort()
