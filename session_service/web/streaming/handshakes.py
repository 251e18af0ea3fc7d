"""Handshakes of polling clients that have not connected yet: limited in number and in time."""

import asyncio
import secrets
from collections.abc import Callable

from session_service.domain.budgets import HANDSHAKE_SECONDS, HANDSHAKES


class Handshakes:
    """The ids of handshakes, oldest first. If there are HANDSHAKES, a new one ends the oldest.

    ``mark`` adds the number of this worker to a new id, see ``Peers.mark``.
    """

    def __init__(self, mark: Callable[[str], str] = str) -> None:
        self._mark = mark
        self._until: dict[str, float] = {}  # deadlines, in the event loop's time
        self._awaited: dict[str, asyncio.Event] = {}  # for requests that wait for a handshake's end

    def __contains__(self, engine_id: str) -> bool:
        self._end_expired()
        return engine_id in self._until

    def __len__(self) -> int:
        self._end_expired()
        return len(self._until)

    def begin(self) -> str:
        """Begin a handshake; return its id, for example ``kQ3xV0bT8mK1wZc5yR7h``."""
        self._end_expired()
        if len(self._until) >= HANDSHAKES:
            self.end(next(iter(self._until)))
        engine_id = self._mark(secrets.token_urlsafe(15))
        self._until[engine_id] = asyncio.get_running_loop().time() + HANDSHAKE_SECONDS
        return engine_id

    def end(self, engine_id: str) -> bool:
        """End a handshake; return false if it had ended before."""
        awaited = self._awaited.pop(engine_id, None)
        if awaited is not None:
            awaited.set()
        return self._until.pop(engine_id, None) is not None

    async def wait_for_end(self, engine_id: str) -> None:
        """Wait until the client connects, or the deadline has passed."""
        try:
            async with asyncio.timeout_at(self._until[engine_id]):
                await self._awaited.setdefault(engine_id, asyncio.Event()).wait()
        except TimeoutError:
            self.end(engine_id)

    def _end_expired(self) -> None:
        """End the handshakes whose deadline has passed."""
        now = asyncio.get_running_loop().time()
        while self._until:
            engine_id, until = next(iter(self._until.items()))
            if until > now:
                break
            self.end(engine_id)
