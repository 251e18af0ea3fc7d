"""Turns: who may read the outbox from an earlier position on, and for how many at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from session_service.domain.budgets import REPLAYS, REPLAYS_OF_CALLER


class Turns:
    """Who may catch up now: a few at a time, and fewer of one caller; the others wait."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(REPLAYS)
        self._of_callers: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, caller: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the block: ``async with turns.of("192.0.2.7"):``."""
        own = self._of_callers.get(caller)
        if own is None:
            own = self._of_callers[caller] = asyncio.Semaphore(REPLAYS_OF_CALLER)
        async with own, self._all:
            yield
