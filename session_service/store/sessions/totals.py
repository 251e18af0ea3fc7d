"""Counts the sessions of a listing exactly, at the moment of the request."""

import asyncio
from collections.abc import Mapping, Sequence

from session_service.domain.ids import SHARDS
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.scripts.listing import (
    MATCHING,
    MATCHING_PART,
    TOTAL,
    TOTAL_PART,
    MatchingArguments,
    MatchingPartArguments,
    TotalArguments,
    TotalPartArguments,
)
from session_service.store.sessions.repairs import Verification
from session_service.store.shards import ShardGroups

_MAX_READ = 400  # sessions that one call looks up: 1 to 2 ms of the store


class Totals:
    """Counts the live sessions of shards. Raises StoreUnavailable.

    A session that is live throughout the count is counted once, and one that is over before it is
    not counted, whether or not the sweep has acted on that. Only sessions with a deadline that is
    due are read. A shard that cannot be read is left out.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        quarantine: Quarantine,
        verification: Verification,
    ) -> None:
        self._executor = executor
        self._keys = keys
        self._quarantine = quarantine
        self._verification = verification
        self._all = ShardGroups(executor, keys, TOTAL, quarantine, together=len(SHARDS))
        self._matching = ShardGroups(executor, keys, MATCHING, quarantine, together=len(SHARDS))

    async def count(self, shards: Sequence[str], prefix: bytes) -> Mapping[str, int]:
        """Return how many sessions match, by shard.

        A session matches if its member of the listing starts with ``prefix`` (see Selection). If
        the store has evicted keys since the listings were verified, those that match are verified
        first.
        """
        if not self._verification.may_evict():
            return await self._count(shards, prefix, by_deadlines=prefix == b"u")
        # A store that evicts sessions can also evict the deadlines of a shard.
        totals, is_due = await asyncio.gather(
            self._count(shards, prefix, by_deadlines=False), self._verification.is_due()
        )
        if not is_due:
            return totals
        await self._verification.verify(shards, prefix)
        return await self._count(shards, prefix, by_deadlines=False)

    async def _count(
        self, shards: Sequence[str], prefix: bytes, *, by_deadlines: bool
    ) -> Mapping[str, int]:
        """Count by the sizes of the sets of deadlines, for all sessions, or by the listings."""
        chosen = None if shards is SHARDS else shards
        if by_deadlines:
            replies = await self._all.run(_total_arguments, _by_shard, chosen)
        else:
            replies = await self._matching.run(
                lambda shards: MatchingArguments("".join(shards), prefix, _MAX_READ),
                _by_shard,
                chosen,
            )
        totals = {shard: total for reply in replies for shard, total in reply}
        for shard in [shard for shard, total in totals.items() if total < 0]:
            totals[shard] = 0
            with self._quarantine.isolating(f"shard {shard}", "total"):
                totals[shard] = await self._count_in_parts(shard, prefix, by_deadlines=by_deadlines)
        return totals

    async def _count_in_parts(self, shard: str, prefix: bytes, *, by_deadlines: bool) -> int:
        """Count a shard in which so much is due that one script would take too long."""
        total, position = 0, b""
        while True:
            if by_deadlines:
                part = await self._executor.run(
                    TOTAL_PART,
                    self._keys.of_shard(TOTAL_PART.keys, shard),
                    TotalPartArguments(position, _MAX_READ),
                )
            else:
                part = await self._executor.run(
                    MATCHING_PART,
                    self._keys.of_shard(MATCHING_PART.keys, shard),
                    MatchingPartArguments(prefix, position, _MAX_READ),
                )
            total, position = total + part.number, part.position
            if part.is_torn:
                total = 0
            elif not position:
                return total


def _by_shard(shards: Sequence[str], totals: list[int]) -> list[tuple[str, int]]:
    return list(zip(shards, totals, strict=True))


def _total_arguments(shards: Sequence[str]) -> TotalArguments:
    return TotalArguments("".join(shards), _MAX_READ)
