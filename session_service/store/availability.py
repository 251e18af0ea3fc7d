"""Whether the store answers somebody who works in the background: logged once, then waited for."""

import asyncio
import logging

from session_service.domain.budgets import AWAY_SECONDS
from session_service.domain.errors import StoreUnavailable

log = logging.getLogger(__name__)


class Availability:
    """The store, as one kind of background task finds it. ``who`` stands before its log lines.

    If several tasks share it, each names itself: the first that finds the store away and the last
    that finds it back are logged.

    Example::

        store = Availability("sweep")
        while True:
            try:
                await work()
                store.answered()
            except StoreUnavailable as error:
                await store.wait_after(error)
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._waiting: set[str] = set()

    @property
    def is_away(self) -> bool:
        """Whether the store did not do what one of the tasks asked last."""
        return bool(self._waiting)

    def answered(self, task: str = "") -> None:
        """Note that the store did what it was asked; log it if it was away before."""
        if task in self._waiting:
            self._waiting.remove(task)
            if not self._waiting:
                log.info("%s: store is back", self._who)

    async def wait_after(self, error: StoreUnavailable, task: str = "") -> None:
        """Log that the store is away if that is new, and sleep until it may be asked again."""
        if not self._waiting:
            log.warning("%s: store unavailable", self._who, extra={"reason": error.reason})
        self._waiting.add(task)
        await pause()


async def pause() -> None:
    """Sleep until the store may be asked again; for a task beside one that logs its absence."""
    await asyncio.sleep(AWAY_SECONDS)
