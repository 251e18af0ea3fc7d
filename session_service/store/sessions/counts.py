"""How many sessions there are: of all shards, or those of some that match."""

import asyncio
from collections.abc import Sequence

from session_service.domain.ids import SHARDS
from session_service.domain.sessions import SessionCounts
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.scripts.listing import COUNT, CountArguments, ShardCounts
from session_service.store.shards import ShardGroups

_TOGETHER = 32  # shards counted by one call, where that can be
_RECENT_SECONDS = 1.0


class Counts:
    """Counts by few calls, whose cost does not grow with the sessions. Raises StoreUnavailable.

    A shard that cannot be counted counts as empty.
    """

    def __init__(
        self, executor: ScriptExecutor, keys: Keys, retention_ms: int, quarantine: Quarantine
    ) -> None:
        self._retention_ms = retention_ms
        self._groups = ShardGroups(executor, keys, COUNT, quarantine, together=_TOGETHER)
        self._recent = SessionCounts()
        self._recent_until = 0.0

    async def count(
        self, shards: Sequence[str] = SHARDS, start: str = ""
    ) -> tuple[SessionCounts, dict[str, int]]:
        """Count in some shards, and what matches in each: whose listing's members start so."""
        arguments = CountArguments(self._retention_ms, start)
        of_all = shards is SHARDS
        replies = await self._groups.run(arguments, _of_each, None if of_all else shards)
        counted = {shard: counts for reply in replies for shard, counts in reply.items()}
        each = counted.values()
        counts = SessionCounts(
            sum(shard.active for shard in each),
            sum(shard.near_expiration for shard in each),
            sum(shard.expired for shard in each),
            sum(shard.matching for shard in each),
            max((shard.lag_ms for shard in each), default=0),
            sum(shard.unreadable for shard in each),
        )
        if of_all:
            self._recent = counts
            self._recent_until = asyncio.get_running_loop().time() + _RECENT_SECONDS
        return counts, {
            shard: counted[shard].matching if shard in counted else 0 for shard in shards
        }

    async def recent(self) -> SessionCounts:
        """Count in all shards, or say what that gave at most a second ago."""
        if asyncio.get_running_loop().time() > self._recent_until:
            await self.count()
        return self._recent


def _of_each(shards: Sequence[str], counts: list[ShardCounts]) -> dict[str, ShardCounts]:
    return dict(zip(shards, counts, strict=True))
