"""Ending many sessions: in batches, so that nobody else waits for long."""

import asyncio
from typing import NamedTuple

from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.script import Script
from session_service.store.keys import Keys
from session_service.store.scripts.sessions import EndAllArguments, EndedAll
from session_service.store.sessions.listing import Selection

_BATCH = 100  # sessions a script ends: about 1 ms of Redis
_SHARDS = 4  # whose batches travel together
_SECONDS = 2.0  # after which a call leaves the rest to the next


class BulkEnd(NamedTuple):
    """How many sessions were ended, and whether there may be ``more`` that should have been."""

    ended: int
    more: bool


async def end_all(
    executor: ScriptExecutor,
    keys: Keys,
    script: Script[EndAllArguments, EndedAll],
    selected: Selection,
) -> BulkEnd:
    """End the selected sessions that are alive.

    ``script`` is END_ALL or its variant that retains conversations. Sessions created since the call
    began, by the clock of each shard's server, are left alone: so a call comes to an end however
    fast new ones are created.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _SECONDS
    shards, start = selected

    async def run(calls: dict[str, tuple[int, bytes]], limit: int) -> list[EndedAll]:
        return await executor.run_all(
            script,
            [
                (keys.of_shard(script.keys, shard), EndAllArguments(start, after, last, limit))
                for shard, (last, after) in calls.items()
            ],
        )

    # A look first, for the clocks and for where there is something: it ends what was created by 0.
    replies = await run(dict.fromkeys(shards, (0, b"")), 1)
    left = {
        shard: (clock, b"")
        for shard, (clock, _, found) in zip(shards, replies, strict=True)
        if found
    }
    ended = 0
    while left:
        batch = dict(list(left.items())[:_SHARDS])
        replies = await run(batch, _BATCH)
        for (shard, (last, _)), (_, number, after) in zip(batch.items(), replies, strict=True):
            ended += number
            if after:
                left[shard] = (last, after)
            else:
                del left[shard]
        if loop.time() >= give_up:
            break
    return BulkEnd(ended, bool(left))
