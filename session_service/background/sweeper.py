"""The sweeper: processes deadlines that are due, and trims the outbox, on every node."""

import asyncio
import logging
import random
from itertools import cycle, islice

from session_service.domain.errors import StoreUnavailable
from session_service.domain.events import EventPolicy
from session_service.store.availability import Availability
from session_service.store.events.outbox import Outbox
from session_service.store.quarantine import Quarantine
from session_service.store.sessions.deadlines import MAX_SHARDS_PER_CALL, SHARD_BLOCKS, Deadlines

# In which every shard is checked once: on average, a deadline waits for half of it.
_ROUND_SECONDS = 0.5
_TRIM_SECONDS = 5.0

log = logging.getLogger(__name__)


async def sweep_forever(
    deadlines: Deadlines, outbox: Outbox, events: EventPolicy, quarantine: Quarantine
) -> None:
    """Check a block of shards at a time, evenly over the round, until this is cancelled.

    If more is due in a shard than one script processes, the shard is processed again in the time
    that is left until the next block, in turn with other such shards. If the store is away, the
    sweeper waits for it. A shard that cannot be processed does not stop the others, nor does a
    defect stop the sweeper.
    """
    sweeper = _Sweeper(deadlines, outbox, events, quarantine)
    store = Availability("sweep")
    now = asyncio.get_running_loop().time
    # In random order, so that nodes do not run in step.
    for block in cycle(random.sample(SHARD_BLOCKS, len(SHARD_BLOCKS))):
        until = now() + _ROUND_SECONDS / len(SHARD_BLOCKS)
        try:
            await sweeper.step(block, until)
            store.answered()
        except StoreUnavailable as error:
            await store.wait_after(error)
        await asyncio.sleep(until - now())


class _Sweeper:
    """The state that rounds share."""

    def __init__(
        self, deadlines: Deadlines, outbox: Outbox, events: EventPolicy, quarantine: Quarantine
    ) -> None:
        self._deadlines = deadlines
        self._outbox = outbox
        self._events = events
        self._quarantine = quarantine
        self._due: dict[str, None] = {}  # shards, in their turn
        self._trim_at = 0.0

    async def step(self, block: tuple[str, ...], until: float) -> None:
        """Check a block, process shards that are due until ``until``, and trim if it is time."""
        now = asyncio.get_running_loop().time
        if not self._quarantine.must_wait("sweeper", "sweep"):
            with self._quarantine.isolating("sweeper", "sweep"):
                self._due.update(dict.fromkeys(await self._deadlines.find_due(block)))
                while self._due:
                    await self._process_some()
                    if now() > until:
                        break
        if now() > self._trim_at and not self._quarantine.must_wait("sweeper", "trim"):
            with self._quarantine.isolating("sweeper", "trim"):
                await self._outbox.trim(self._events)
            self._trim_at = now() + _TRIM_SECONDS

    async def _process_some(self) -> None:
        shards = list(islice(self._due, MAX_SHARDS_PER_CALL))
        result = await self._deadlines.process_due(shards)
        for shard in shards:
            del self._due[shard]
        self._due.update(dict.fromkeys(result.shards_with_more))
        if result.repaired:
            log.warning(
                "listings named sessions that were gone", extra={"removed": result.repaired}
            )
