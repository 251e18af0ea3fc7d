"""Counts the sessions of a listing exactly, at the moment of the request."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

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
from session_service.store.sessions.paging import Place, Selection
from session_service.store.sessions.repairs import Verification
from session_service.store.shards import ShardGroups

_MAX_READ = 400  # sessions that one call looks up: 1 to 2 ms of the store
_TOGETHER = 16  # shards that one call counts for several starts, of which there are at most 16


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
        self._several = ShardGroups(executor, keys, MATCHING, quarantine, together=_TOGETHER)

    async def sum(self, selected: Selection) -> int:
        """Return how many sessions match."""
        return sum((await self.count(selected)).values())

    async def count(self, selected: Selection) -> Mapping[Place, int]:
        """Return how many sessions match, by place.

        If the store has evicted keys since the listings were verified, those that match are
        verified first.
        """
        if not self._verification.may_evict():
            return await self._count(selected, by_deadlines=selected.is_all)
        # A store that evicts sessions can also evict the deadlines of a shard.
        totals, is_due = await asyncio.gather(
            self._count(selected, by_deadlines=False), self._verification.is_due()
        )
        if not is_due:
            return totals
        for prefix in selected.prefixes:
            await self._verification.verify(selected.shards, prefix)
        return await self._count(selected, by_deadlines=False)

    async def _count(self, selected: Selection, *, by_deadlines: bool) -> Mapping[Place, int]:
        """Count by the sizes of the sets of deadlines, for all sessions, or by the listings."""
        shards, prefixes = selected
        chosen = None if shards is SHARDS else shards
        read = partial(_by_place, prefixes)
        if by_deadlines:
            replies = await self._all.run(_total_arguments, read, chosen)
        else:
            groups = self._matching if len(prefixes) == 1 else self._several
            replies = await groups.run(
                lambda shards: MatchingArguments("".join(shards), _MAX_READ, prefixes), read, chosen
            )
        totals = {place: total for reply in replies for place, total in reply}
        for place in [place for place, total in totals.items() if total < 0]:
            totals[place] = 0
            with self._quarantine.isolating(f"shard {place.shard}", "total"):
                totals[place] = await self._count_in_parts(*place, by_deadlines=by_deadlines)
        return totals

    async def _count_in_parts(self, prefix: bytes, shard: str, *, by_deadlines: bool) -> int:
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


def _by_place(
    prefixes: Sequence[bytes], shards: Sequence[str], totals: list[int]
) -> list[tuple[Place, int]]:
    places = (Place(prefix, shard) for shard in shards for prefix in prefixes)
    return list(zip(places, totals, strict=True))


def _total_arguments(shards: Sequence[str]) -> TotalArguments:
    return TotalArguments("".join(shards), _MAX_READ)
