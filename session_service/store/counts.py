"""How many sessions there are: of all shards, or those of some that match."""

import asyncio
from collections.abc import Sequence

from session_service.domain.ids import SHARDS
from session_service.domain.sessions import SessionCounts
from session_service.store import scripts
from session_service.store.keys import Keys, KeySet
from session_service.store.pipeline import Pipeline

_TOGETHER = 32  # shards counted by one call, where that can be
_RECENT_SECONDS = 1.0

_NUMBERS = 5  # of each shard, in the order of SessionCounts


class Counts:
    """Counts by few calls, whose cost does not grow with the sessions. Raises StoreUnavailable."""

    def __init__(self, pipeline: Pipeline, keys: Keys, retention_ms: bytes) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._retention_ms = retention_ms
        self._of_all = self._grouped(SHARDS)
        self._recent = SessionCounts()
        self._recent_until = 0.0

    async def count(
        self, shards: Sequence[str] = SHARDS, start: str = ""
    ) -> tuple[SessionCounts, dict[str, int]]:
        """Count in some shards, and what matches in each: whose listing's members start so."""
        groups = self._of_all if shards is SHARDS else self._grouped(shards)
        arguments = (self._retention_ms, "", start)
        replies = await self._pipeline.run_all(
            scripts.COUNT, [(keys, arguments) for keys in groups]
        )
        numbers = [number for reply in replies for number in reply]
        active, near, expired, matching, lag = (numbers[n::_NUMBERS] for n in range(_NUMBERS))
        counts = SessionCounts(sum(active), sum(near), sum(expired), sum(matching), max(lag))
        if shards is SHARDS:
            self._recent = counts
            self._recent_until = asyncio.get_running_loop().time() + _RECENT_SECONDS
        return counts, dict(zip(shards, matching, strict=True))

    async def recent(self) -> SessionCounts:
        """Count in all shards, or say what that gave at most a second ago."""
        if asyncio.get_running_loop().time() > self._recent_until:
            await self.count()
        return self._recent

    def _grouped(self, shards: Sequence[str]) -> list[KeySet]:
        size = _TOGETHER if self._pipeline.spans_shards else 1
        parts = [shards[n : n + size] for n in range(0, len(shards), size)]
        return [self._keys.of_shards(scripts.COUNT.keys, part) for part in parts]
