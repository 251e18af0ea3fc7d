"""Outages of the store in background tasks: each is logged once at its start and at its end."""

import asyncio
import logging

from session_service.domain.budgets import AWAY_SECONDS
from session_service.domain.errors import StoreUnavailable

log = logging.getLogger(__name__)


class Availability:
    """The availability of the store to one kind of background task.

    ``name`` begins the log lines, e.g. "sweep: store unavailable" and "sweep: store is back".
    Several tasks may share an object if each passes a ``task`` of its own: the first one that fails
    and the last one that succeeds again are logged.

    Example::

        store = Availability("sweep")
        while True:
            try:
                await work()
                store.answered()
            except StoreUnavailable as error:
                await store.wait_after(error)
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: set[str] = set()

    def answered(self, task: str = "") -> None:
        """Record a call that succeeded; log the end of an outage."""
        if task in self._waiting:
            self._waiting.remove(task)
            if not self._waiting:
                log.info("%s: store is back", self._name)

    async def wait_after(self, error: StoreUnavailable, task: str = "") -> None:
        """Record a call that failed, log the start of an outage, and wait AWAY_SECONDS."""
        if not self._waiting:
            log.warning("%s: store unavailable", self._name, extra={"reason": error.reason})
        self._waiting.add(task)
        await pause()


async def pause() -> None:
    """Sleep until the store may be asked again; for a task beside one that logs its absence."""
    await asyncio.sleep(AWAY_SECONDS)
