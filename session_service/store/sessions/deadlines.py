"""Deadlines that are due: each is acted on once, by one script, of whichever node comes first."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from session_service.domain.ids import SHARDS
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.script import NO_ARGUMENTS
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.scripts.deadlines import (
    DUE,
    REPAIR,
    SWEEP,
    RepairArguments,
    SweepArguments,
    Swept,
)
from session_service.store.scripts.variants import retaining_history
from session_service.store.sessions.unreadable import Unreadable
from session_service.store.shards import ShardGroups

# Shards acted on at a time: up to 8 ms of Redis, and then requests are served. With half as many a
# node that had to share its core fell behind at 33,000 deadlines a second.
TOGETHER = 8
_LIMIT = 32  # deadlines of a kind that a script acts on: about 1 ms of Redis
_MEMBERS = 500  # of a listing that a script looks at: as much

# Shards that are looked at together: every eighth, for outbox.py reads neighbours together. So what
# one sweep announces is spread over all calls of a reading, which halves the store's time for them.
BLOCKS: tuple[tuple[str, ...], ...] = tuple(SHARDS[n::8] for n in range(8))


class Acted(NamedTuple):
    """What was done, and the shards in which more may be due."""

    warned: int = 0
    expired: int = 0
    forgotten: int = 0
    repaired: int = 0  # members of listings that named sessions that were gone
    behind: tuple[str, ...] = ()


class Deadlines:
    """Warnings, expiries and ends of retention. Every method raises StoreUnavailable.

    The two durations are as of SessionRepository. A shard that cannot be processed is left out.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        retention_ms: int,
        history_ms: int = 0,
        quarantine: Quarantine | None = None,
    ) -> None:
        quarantine = Quarantine() if quarantine is None else quarantine
        self._executor = executor
        self._keys = keys
        self._quarantine = quarantine
        self._unreadable = Unreadable(executor, keys)
        self._retention_ms = retention_ms
        self._due = {
            block: ShardGroups(executor, keys, DUE, quarantine, together=len(block), shards=block)
            for block in BLOCKS
        }
        sweep = retaining_history(SWEEP, history_ms)
        self._sweep = ShardGroups(executor, keys, sweep, quarantine)

    async def due(self, block: tuple[str, ...]) -> list[str]:
        """Return the shards of a block, which is one of BLOCKS, in which something is due."""

        def names(shards: Sequence[str], positions: list[int]) -> list[str]:
            return [shards[position] for position in positions]

        found = await self._due[block].run(NO_ARGUMENTS, names)
        return [shard for shards in found for shard in shards]

    async def act(self, shards: Sequence[str]) -> Acted:
        """Act on what is due in some shards, up to a bound for each; see ``behind``."""
        warned = expired = forgotten = repaired = 0
        behind = []
        arguments = SweepArguments(self._retention_ms, _LIMIT)
        for n in range(0, len(shards), TOGETHER):
            replies = await self._sweep.run(arguments, _of_one, shards[n : n + TOGETHER])
            for shard, swept in replies:
                for session_id in swept.unreadable:
                    self._unreadable.log(session_id.decode())
                warned += swept.warned
                expired += swept.expired
                forgotten += swept.forgotten
                if swept.more:
                    behind.append(shard)
                if swept.lost and not self._quarantine.must_wait(f"shard {shard}", "repair"):
                    with self._quarantine.isolating(f"shard {shard}", "repair"):
                        repaired += await self._repair(shard, swept.lost)
        return Acted(warned, expired, forgotten, repaired, tuple(behind))

    async def sweep(self) -> Acted:
        """Act on what is due in all shards, up to a bound for each."""
        return await self.act([shard for block in BLOCKS for shard in await self.due(block)])

    async def _repair(self, shard: str, lost: Iterable[bytes]) -> int:
        """Remove from a listing what is gone: evicted, or deleted behind our back."""
        repaired, after = 0, b""
        while True:
            removed, after = await self._executor.run(
                REPAIR,
                self._keys.of_shard(REPAIR.keys, shard),
                RepairArguments(after, _MEMBERS, tuple(lost)),
            )
            repaired += removed
            if not after:
                return repaired


def _of_one(shards: Sequence[str], swept: Swept) -> tuple[str, Swept]:
    (shard,) = shards
    return shard, swept
