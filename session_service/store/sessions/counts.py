"""The numbers of sessions, for health and the statistics of lists.

The sweeper brings the sizes of all shards along, twice a second, so counting asks the store for
nothing but a reply.
"""

import asyncio
from collections.abc import Iterable

from session_service.domain.ids import SHARDS
from session_service.domain.sessions import SessionCounts
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.scripts.deadlines import DUE, DueArguments, ShardSizes
from session_service.store.shards import ShardGroups

_RECENT_SECONDS = 1.0  # the sweeper reads each shard every 0.5 s
_MAX_SHARDS = 32  # read by one call, if the store allows several in one
_MAX_READ = 200  # warnings that are due, by one call: less than 1 ms of the store
_NOTHING = ShardSizes(0, 0, 0, 0, 0, 0)


class KnownSizes:
    """The sizes of shards as the sweeper of this process last saw or left them.

    It notes them when nothing is due, so that no session counts that is over. ``sums`` are of all
    shards.
    """

    def __init__(self) -> None:
        self.sums = _NOTHING
        self._by_shard: dict[str, ShardSizes] = {}
        self._times: dict[str, float] = {}  # by the loop's clock, the oldest first

    def note(self, shard: str, sizes: ShardSizes) -> None:
        """Remember the sizes of a shard, which were read just now."""
        self._times.pop(shard, None)
        self._times[shard] = asyncio.get_running_loop().time()
        before = self._by_shard.get(shard, _NOTHING)
        if sizes != before:
            self._by_shard[shard] = sizes
            changes = zip(self.sums, sizes, before, strict=True)
            self.sums = ShardSizes(*(total + new - old for total, new, old in changes))

    def are_recent(self) -> bool:
        """Return whether the sizes of all shards are at most a second old."""
        oldest = next(iter(self._times.values()), 0.0)
        return len(self._times) == len(SHARDS) and oldest >= self._last_second()

    def recent(self) -> dict[str, ShardSizes]:
        """Return the sizes that are at most a second old, by shard."""
        last_second = self._last_second()
        return {
            shard: self._by_shard.get(shard, _NOTHING)
            for shard, noted_at in self._times.items()
            if noted_at >= last_second
        }

    @staticmethod
    def _last_second() -> float:
        return asyncio.get_running_loop().time() - _RECENT_SECONDS


class SessionCounter:
    """Counts sessions at a cost that does not grow with their number. Raises StoreUnavailable.

    The counts are at most a second old. A shard whose sizes are not known is read, for example
    while no sweeper runs, or while the sweep is behind in it. Then, of the sessions whose warning
    is due, only some are looked up, and the others count as active. A shard that cannot be read
    counts as empty.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        known: KnownSizes,
        retention_ms: int,
        quarantine: Quarantine,
    ) -> None:
        self._executor = executor
        self._known = known
        self._retention_ms = retention_ms
        self._groups = ShardGroups(executor, keys, DUE, quarantine, together=_MAX_SHARDS)
        self._last = SessionCounts()
        self._last_until = 0.0

    async def count(self) -> SessionCounts:
        """Wait for a reply of every master; return the counts."""
        await self._executor.ping()
        return await self._count()

    async def recent(self) -> SessionCounts:
        """Return the counts, without a call to the store if some are at most a second old."""
        is_last_recent = asyncio.get_running_loop().time() < self._last_until
        if is_last_recent and not self._known.are_recent():
            return self._last
        return await self._count()

    def known_sizes(self) -> dict[str, ShardSizes]:
        """Return the sizes of all shards, at most a second old, or none if some are not known."""
        return self._known.recent() if self._known.are_recent() else {}

    async def _count(self) -> SessionCounts:
        """Count, and read the shards whose sizes are not known."""
        if self._known.are_recent():
            return _counts([self._known.sums])
        known = self._known.recent()
        unknown = [shard for shard in SHARDS if shard not in known]
        read = await self._groups.run(
            lambda shards: DueArguments("".join(shards), self._retention_ms, _MAX_READ),
            lambda _, sizes: sizes,
            unknown,
        )
        self._last = _counts([*known.values(), *(each for sizes in read for each in sizes)])
        self._last_until = asyncio.get_running_loop().time() + _RECENT_SECONDS
        return self._last


def _counts(sizes: Iterable[ShardSizes]) -> SessionCounts:
    """Add up the sizes of shards."""
    _, active, near_expiration, expired, unreadable, lags = zip(_NOTHING, *sizes, strict=True)
    return SessionCounts(
        active=sum(active),
        near_expiration=sum(near_expiration),
        expired=sum(expired),
        unreadable=sum(unreadable),
        sweep_lag_ms=max(lags),
    )
