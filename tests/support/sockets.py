"""Sockets for the suites: the Python client, and the events that it received."""

from collections.abc import Awaitable, Callable
from typing import Any

import socketio

GREETINGS = {"connection_established", "channel_joined", "room_joined"}


class Socket:
    """A socket, and the events that it received: greetings apart from the others."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.greetings: list[tuple[str, Any]] = []
        self.told: list[tuple[str, Any]] = []
        self.client.on("*", self._heard)

    async def _heard(self, name: str, *given: Any) -> None:
        (self.greetings if name in GREETINGS else self.told).append((name, *given))

    async def emit(self, name: str, *given: Any) -> Any:
        """Emit; returns the acknowledgement."""
        return await self.client.call(name, given or None)

    def names(self) -> list[str]:
        return [name for name, *_ in self.told]

    def of(self, name: str) -> list[Any]:
        """Return what came with the events of a name."""
        return [given[0] for each, *given in self.told if each == name]


Connect = Callable[..., Awaitable[Socket]]
