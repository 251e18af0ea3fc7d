"""Counts sessions: those of all shards, or of some shards those that match a filter."""

import asyncio
from collections.abc import Sequence

from session_service.domain.ids import SHARDS
from session_service.domain.sessions import SessionCounts
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.scripts.listing import COUNT, CountArguments, ShardCounts
from session_service.store.shards import ShardGroups

_MAX_SHARDS = 32  # counted by one call, if the store allows several in one
_RECENT_SECONDS = 1.0


class SessionCounter:
    """Counts sessions at a cost that does not grow with their number. Raises StoreUnavailable.

    A shard that cannot be read counts as empty.
    """

    def __init__(
        self, executor: ScriptExecutor, keys: Keys, retention_ms: int, quarantine: Quarantine
    ) -> None:
        self._retention_ms = retention_ms
        self._groups = ShardGroups(executor, keys, COUNT, quarantine, together=_MAX_SHARDS)
        self._recent = SessionCounts()
        self._recent_until = 0.0

    async def count(
        self, shards: Sequence[str] = SHARDS, prefix: str = ""
    ) -> tuple[SessionCounts, dict[str, int]]:
        """Return the counts of some shards, and for each shard how many sessions match.

        A session matches if its member of the listing starts with ``prefix`` (see Selection).
        """
        arguments = CountArguments(self._retention_ms, prefix)
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
        """Return the counts of all shards, which may be up to a second old."""
        if asyncio.get_running_loop().time() > self._recent_until:
            await self.count()
        return self._recent


def _of_each(shards: Sequence[str], counts: list[ShardCounts]) -> dict[str, ShardCounts]:
    return dict(zip(shards, counts, strict=True))
