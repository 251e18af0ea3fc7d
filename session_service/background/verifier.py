"""The verifier: removes sessions that the store has evicted from the indexes, on one node."""

import asyncio

from session_service.domain.errors import StoreUnavailable
from session_service.store.availability import Availability
from session_service.store.quarantine import Quarantine
from session_service.store.sessions.repairs import Verification

_LOOK_SECONDS = 2.0  # between two checks for evictions: a few microseconds of the store


async def verify_forever(verification: Verification, quarantine: Quarantine) -> None:
    """Verify the indexes whenever keys were evicted, until this is cancelled."""
    store = Availability("verification")
    while True:
        try:
            if not quarantine.must_wait("indexes", "verify"):
                with quarantine.isolating("indexes", "verify"):
                    await verification.verify_in_background()
            store.answered()
        except StoreUnavailable as error:
            await store.wait_after(error)
        await asyncio.sleep(_LOOK_SECONDS)
