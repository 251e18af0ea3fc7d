"""Polling clients that have shaken hands and not connected yet: bounded in number and in time."""

import asyncio
import secrets
from collections.abc import Callable

from session_service.domain.budgets import HANDSHAKE_SECONDS, HANDSHAKES


class Handshakes:
    """The ids that were given to clients, oldest first. One more than HANDSHAKES ends the oldest.

    ``mark`` makes of a new id one that names this worker.
    """

    def __init__(self, mark: Callable[[str], str] = str) -> None:
        self._mark = mark
        self._until: dict[str, float] = {}  # in the event loop's time
        self._awaited: dict[str, asyncio.Event] = {}  # those that a request waits for

    def __contains__(self, engine_id: str) -> bool:
        self._forget()
        return engine_id in self._until

    def __len__(self) -> int:
        self._forget()
        return len(self._until)

    def begin(self) -> str:
        """Begin a handshake; returns its id."""
        self._forget()
        if len(self._until) >= HANDSHAKES:
            self.end(next(iter(self._until)))
        engine_id = self._mark(secrets.token_urlsafe(15))
        self._until[engine_id] = asyncio.get_running_loop().time() + HANDSHAKE_SECONDS
        return engine_id

    def end(self, engine_id: str) -> bool:
        """End a handshake; returns whether it was under way."""
        awaited = self._awaited.pop(engine_id, None)
        if awaited is not None:
            awaited.set()
        return self._until.pop(engine_id, None) is not None

    async def over(self, engine_id: str) -> None:
        """Wait until the client connects, or its time is over."""
        try:
            async with asyncio.timeout_at(self._until[engine_id]):
                await self._awaited.setdefault(engine_id, asyncio.Event()).wait()
        except TimeoutError:
            self.end(engine_id)

    def _forget(self) -> None:
        """Forget those whose time is over."""
        now = asyncio.get_running_loop().time()
        while self._until:
            engine_id, until = next(iter(self._until.items()))
            if until > now:
                break
            self.end(engine_id)
