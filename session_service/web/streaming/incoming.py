"""Messages that arrive on WebSockets, limited as bodies are: in total size, and in time."""

import asyncio

from session_service.domain.budgets import BODY_SECONDS, SOCKET_WATCHED_BYTES
from session_service.web.http.connections import Connection
from session_service.web.http.transfers import Transfers


class Incoming:
    """The bytes received on one WebSocket since its last whole message.

    They are a Transfer once there are more than SOCKET_WATCHED_BYTES; small messages cost nothing.
    """

    def __init__(self, connection: Connection, transfers: Transfers) -> None:
        self._connection = connection
        self._transfers = transfers
        self._bytes = 0
        self._since: float | None = None  # the event loop's time since when it is a Transfer

    def arrived(self, size: int) -> None:
        """Count received bytes."""
        self._bytes += size
        if self._since is None and self._bytes > SOCKET_WATCHED_BYTES:
            self._since = asyncio.get_running_loop().time()
            self._transfers.begin(self)

    def end(self) -> None:
        """Reset the count: a message is whole, or the WebSocket is closed."""
        self._bytes = 0
        if self._since is not None:
            self._since = None
            self._transfers.end(self)

    def held(self) -> int:
        """Return the received bytes of the message."""
        return self._bytes

    def is_stalled(self, now: float) -> bool:
        """Return whether the message takes longer than BODY_SECONDS."""
        return self._since is not None and now - self._since > BODY_SECONDS

    def cut(self) -> None:
        """Close the connection."""
        self._connection.abort()
