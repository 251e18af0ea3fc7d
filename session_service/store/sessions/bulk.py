"""Ends many sessions, in batches: other requests wait at most for one of them."""

import asyncio
from typing import NamedTuple

from session_service.store.client.script import Script
from session_service.store.keys import Keys
from session_service.store.scripts.sessions import EndAllArguments, EndedAll
from session_service.store.sessions.paging import Place, Selection
from session_service.store.sessions.scope import Scope

_BATCH = 100  # sessions that one script ends: about 1 ms of Redis
_MAX_SHARDS = 4  # with batches that are sent together
_MAX_SECONDS = 2.0  # of one call; the caller repeats it to end the others


class BulkEnd(NamedTuple):
    """The number of sessions ended, and whether ``more`` match that were not."""

    ended: int
    more: bool


async def end_all(
    scope: Scope,
    keys: Keys,
    script: Script[EndAllArguments, EndedAll],
    selected: Selection,
) -> BulkEnd:
    """End the selected live sessions.

    ``script`` is END_ALL or its variant that retains conversations. Sessions created after the
    call began, by the clock of each shard's server, are left alone: so a call comes to an end
    however fast new ones are created.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _MAX_SECONDS
    by = scope.credential.ends_as

    async def run(calls: dict[Place, tuple[int, bytes]], limit: int) -> list[EndedAll]:
        return await scope.executor.run_all(
            script,
            [
                (keys.of_shard(script.keys, shard), EndAllArguments(start, after, last, limit, by))
                for (start, shard), (last, after) in calls.items()
            ],
        )

    # The first calls read the clocks and find the places with members. They end no session: none
    # was created before 0.
    left: dict[Place, tuple[int, bytes]] = {}
    clocks: dict[str, int] = {}
    for prefix in selected.prefixes:
        places = [Place(prefix, shard) for shard in selected.shards]
        replies = await run(dict.fromkeys(places, (0, b"")), 1)
        for place, (clock, _, found) in zip(places, replies, strict=True):
            began = clocks.setdefault(place.shard, clock)
            if found:
                left[place] = (began, b"")
    ended = 0
    while left:
        batch = dict(list(left.items())[:_MAX_SHARDS])
        replies = await run(batch, _BATCH)
        for (place, (last, _)), (_, number, after) in zip(batch.items(), replies, strict=True):
            ended += number
            if after:
                left[place] = (last, after)
            else:
                del left[place]
        if loop.time() >= deadline:
            break
    return BulkEnd(ended, bool(left))
