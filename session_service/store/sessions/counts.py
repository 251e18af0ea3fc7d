"""The numbers of sessions, for health and the statistics of lists.

The sweeper brings the sizes of all shards along, twice a second, so counting asks the store for
nothing but a reply.
"""

import asyncio
from collections.abc import Iterable, Mapping

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


class KnownSizes:
    """The sizes of shards as the sweeper of this process last saw or left them.

    It notes them when nothing is due, so that no session counts that is over.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, tuple[float, ShardSizes]] = {}  # with the time on the loop's clock

    def note(self, shard: str, sizes: ShardSizes) -> None:
        """Remember the sizes of a shard, which were read just now."""
        self._sizes[shard] = asyncio.get_running_loop().time(), sizes

    def recent(self) -> dict[str, ShardSizes]:
        """Return the sizes that are at most a second old, by shard."""
        oldest = asyncio.get_running_loop().time() - _RECENT_SECONDS
        return {shard: sizes for shard, (at, sizes) in self._sizes.items() if at >= oldest}


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
        self._arguments = DueArguments(retention_ms, _MAX_READ)
        self._groups = ShardGroups(executor, keys, DUE, quarantine, together=_MAX_SHARDS)
        self._last = SessionCounts()
        self._last_until = 0.0

    async def count(self) -> SessionCounts:
        """Wait for a reply of every master; return the counts."""
        await self._executor.ping()
        return await self._count(self._known.recent())

    async def recent(self) -> SessionCounts:
        """Return the counts, without a call to the store if some are at most a second old."""
        known = self._known.recent()
        if len(known) < len(SHARDS) and asyncio.get_running_loop().time() < self._last_until:
            return self._last
        return await self._count(known)

    async def _count(self, known: Mapping[str, ShardSizes]) -> SessionCounts:
        """Count, and read the shards whose sizes are not known."""
        if len(known) == len(SHARDS):
            return _sum(known.values())
        unknown = [shard for shard in SHARDS if shard not in known]
        read = await self._groups.run(self._arguments, lambda _, sizes: sizes, unknown)
        self._last = _sum([*known.values(), *(each for sizes in read for each in sizes)])
        self._last_until = asyncio.get_running_loop().time() + _RECENT_SECONDS
        return self._last


def _sum(sizes: Iterable[ShardSizes]) -> SessionCounts:
    rows = list(sizes)
    if not rows:
        return SessionCounts()
    _, active, near_expiration, expired, unreadable, lags = zip(*rows, strict=True)
    return SessionCounts(
        active=sum(active),
        near_expiration=sum(near_expiration),
        expired=sum(expired),
        unreadable=sum(unreadable),
        sweep_lag_ms=max(lags),
    )
