"""Socket.IO connections of the Python client, with the events that they received."""

from collections.abc import Awaitable, Callable
from typing import Any

import socketio

GREETINGS = {"connection_established", "channel_joined", "room_joined"}


class Socket:
    """A connection and its received events, of which the greetings are kept apart."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.greetings: list[tuple[str, Any]] = []
        self.received: list[tuple[str, Any]] = []
        self.client.on("*", self._receive)

    async def _receive(self, name: str, *arguments: Any) -> None:
        (self.greetings if name in GREETINGS else self.received).append((name, *arguments))

    async def emit(self, name: str, *arguments: Any) -> Any:
        """Emit an event; return its acknowledgement."""
        return await self.client.call(name, arguments or None)

    def names(self) -> list[str]:
        """Return the names of the received events, in order."""
        return [name for name, *_ in self.received]

    def of(self, name: str) -> list[Any]:
        """Return the first argument of each received event of a name."""
        return [arguments[0] for each, *arguments in self.received if each == name]


Connect = Callable[..., Awaitable[Socket]]


def frame(text: str) -> bytes:
    """Return a client's text frame, masked with zeros."""
    return bytes((0x81, 0x80 + len(text), 0, 0, 0, 0)) + text.encode()
