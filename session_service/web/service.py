"""What the handlers work with."""

import asyncio
import time
from contextlib import suppress

from session_service.domain.timeouts import TimeoutPolicy
from session_service.store.repository import SessionRepository


class Service:
    """The repository, the rules, and the state of this process."""

    def __init__(self, repository: SessionRepository, policy: TimeoutPolicy) -> None:
        self.repository = repository
        self.policy = policy
        self.draining = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._started = time.monotonic()

    def request_begins(self) -> None:
        """Count a request in."""
        self._in_flight += 1

    def request_ends(self) -> None:
        """Count a request out."""
        self._in_flight -= 1
        if self.draining and not self._in_flight:
            self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Be not ready from now on; return when no request is in flight, or the time is over."""
        self.draining = True
        if self._in_flight:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self._started, 3)
