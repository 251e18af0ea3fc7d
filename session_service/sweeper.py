"""The sweeper: acts on deadlines that are due, and bounds the outbox, on every node."""

import asyncio
import logging
import random
from itertools import cycle, islice

from session_service.domain.errors import StoreUnavailable
from session_service.domain.events import EventPolicy
from session_service.store.deadlines import BLOCKS, TOGETHER, Deadlines
from session_service.store.outbox import Outbox

_ROUND_SECONDS = (
    0.5  # in which all shards are looked at: a deadline waits for half of it on average
)
_TRIM_SECONDS = 5.0
_AWAY_SECONDS = 0.5  # until a store that was away is asked again

log = logging.getLogger(__name__)


async def sweep_forever(deadlines: Deadlines, outbox: Outbox, events: EventPolicy) -> None:
    """Look at a block of shards at a time, evenly over the round. Ends by cancellation.

    Where more is due in a shard than a script takes, it is acted on again, in turn with others like
    it, in the time that the looks leave. A store that is away is waited for; any other error is a
    defect and ends the sweeper.
    """
    now = asyncio.get_running_loop().time
    waiting: dict[str, None] = {}  # shards in which something is due, in turn
    trim_at, is_away = 0.0, False
    for block in cycle(random.sample(BLOCKS, len(BLOCKS))):  # so that nodes do not go in step
        until = now() + _ROUND_SECONDS / len(BLOCKS)
        try:
            waiting.update(dict.fromkeys(await deadlines.due(block)))
            while waiting:
                shards = list(islice(waiting, TOGETHER))
                acted = await deadlines.act(shards)
                for shard in shards:
                    del waiting[shard]
                waiting.update(dict.fromkeys(acted.behind))
                if acted.repaired:
                    log.warning(
                        "listings named sessions that were gone", extra={"removed": acted.repaired}
                    )
                if now() > until:
                    break
            if now() > trim_at:
                await outbox.trim(events)
                trim_at = now() + _TRIM_SECONDS
            if is_away:
                log.info("sweep: store is back")
            is_away = False
        except StoreUnavailable as error:
            if not is_away:
                log.warning("sweep: store unavailable", extra={"reason": error.reason})
            is_away = True
            await asyncio.sleep(_AWAY_SECONDS)
        await asyncio.sleep(until - now())
