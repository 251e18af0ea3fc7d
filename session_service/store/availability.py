"""Whether the store answers somebody who works in the background: logged once, then waited for."""

import asyncio
import logging

from session_service.domain.budgets import AWAY_SECONDS
from session_service.domain.errors import StoreUnavailable

log = logging.getLogger(__name__)


class Availability:
    """The store, as one background task finds it. ``who`` stands before its log lines.

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
        self.is_away = False

    def answered(self) -> None:
        """Note that the store did what it was asked; log it if it was away before."""
        if self.is_away:
            self.is_away = False
            log.info("%s: store is back", self._who)

    async def wait_after(self, error: StoreUnavailable) -> None:
        """Log that the store is away if that is new, and sleep until it may be asked again."""
        if not self.is_away:
            self.is_away = True
            log.warning("%s: store unavailable", self._who, extra={"reason": error.reason})
        await asyncio.sleep(AWAY_SECONDS)
