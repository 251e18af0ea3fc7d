"""Slots in which subscribers catch up: how many may read the outbox from an earlier position on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from session_service.domain.budgets import CATCH_UP_SLOTS, CATCH_UP_SLOTS_OF_CALLER


class CatchUpSlots:
    """Lets 4 subscribers catch up at a time, and 2 of one caller; the others wait."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(CATCH_UP_SLOTS)
        self._by_caller: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, caller: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it in the block: ``async with slots.hold("192.0.2.7"):``."""
        own = self._by_caller.get(caller)
        if own is None:
            own = self._by_caller[caller] = asyncio.Semaphore(CATCH_UP_SLOTS_OF_CALLER)
        async with own, self._all:
            yield
