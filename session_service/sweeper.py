"""The sweeper: acts on deadlines that are due, on every node, whichever comes first."""

import asyncio
import logging

from session_service.domain.errors import StoreUnavailable
from session_service.store.repository import SessionRepository

INTERVAL_SECONDS = 1.0

log = logging.getLogger(__name__)


async def sweep_forever(repository: SessionRepository) -> None:
    """Sweep every second, and at once where a sweep left deadlines behind. Ends by cancellation.

    A store that is away is waited for; any other error is a defect and ends the sweeper.
    """
    store_is_away = False
    while True:
        more = False
        try:
            report = await repository.sweep()
        except StoreUnavailable as error:
            if not store_is_away:
                log.warning("sweep: store unavailable", extra={"reason": error.reason})
            store_is_away = True
        else:
            more = report.more
            if store_is_away:
                log.info("sweep: store is back")
            store_is_away = False
            if report.repaired:
                log.warning(
                    "listings named sessions that were gone", extra={"removed": report.repaired}
                )
        await asyncio.sleep(0 if more else INTERVAL_SECONDS)
