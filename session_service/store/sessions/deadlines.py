"""Deadlines of sessions: warnings, expiries and ends of retention.

Every node sweeps all shards. A deadline is processed once, by the script of the node that comes
first, which removes it in the same step.
"""

from collections.abc import Sequence
from typing import NamedTuple

from session_service.domain.ids import SHARDS
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.records import unpack_id
from session_service.store.scripts.deadlines import (
    DUE,
    SWEEP,
    DueArguments,
    ShardSizes,
    SweepArguments,
    Swept,
)
from session_service.store.scripts.variants import retaining_history
from session_service.store.sessions.counts import KnownSizes
from session_service.store.sessions.repairs import Repairs
from session_service.store.sessions.unreadable import UnreadableSessions
from session_service.store.shards import ShardGroups

# Shards that are swept together: they take Redis up to 8 ms, and then requests are served. With
# half as many, a node that had to share its core fell behind at 33,000 deadlines a second.
MAX_SHARDS_PER_CALL = 8
_MAX_DEADLINES = 32  # of each kind, that one script processes: about 1 ms of Redis

# Shards that are checked together: "00", "08", "10" and so on. Neighbours are in different blocks
# because outbox.py reads neighbours in one call: the events of one sweep are spread over all calls
# of a read, which halves the store's time for them.
SHARD_BLOCKS: tuple[tuple[str, ...], ...] = tuple(SHARDS[n::8] for n in range(8))


class SweepResult(NamedTuple):
    """The number of deadlines processed, by kind, and the shards that may have more."""

    warned: int = 0
    expired: int = 0
    forgotten: int = 0  # sessions whose retention ended
    repaired: int = 0  # members removed from listings because their sessions did not exist
    shards_with_more: tuple[str, ...] = ()


class Deadlines:
    """Finds and processes the deadlines that are due. Every method raises StoreUnavailable.

    ``retention_ms`` and ``history_ms`` are those of SessionRepository. A shard that cannot be
    processed is skipped and goes to the quarantine.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        *,
        retention_ms: int,
        history_ms: int,
        quarantine: Quarantine,
        known_sizes: KnownSizes,
    ) -> None:
        self._measures = executor.signals.measures
        self._quarantine = quarantine
        self._unreadable = UnreadableSessions(executor, keys)
        self._retention_ms = retention_ms
        self._known_sizes = known_sizes
        self._repairs = Repairs(executor, keys, retention_ms)
        self._due = {
            block: ShardGroups(executor, keys, DUE, quarantine, together=len(block), shards=block)
            for block in SHARD_BLOCKS
        }
        sweep = retaining_history(SWEEP, history_ms)
        self._sweep = ShardGroups(executor, keys, sweep, quarantine)

    async def find_due(self, block: tuple[str, ...]) -> list[str]:
        """Return the shards of a block (one of SHARD_BLOCKS) that have deadlines due.

        Notes the sizes of the others, for counts.
        """

        def due(shards: Sequence[str], sizes: list[ShardSizes]) -> list[str]:
            found = []
            for shard, each in zip(shards, sizes, strict=True):
                if each.is_due:
                    found.append(shard)
                else:
                    self._known_sizes.note(shard, each)
            return found

        found = await self._due[block].run(
            lambda shards: DueArguments("".join(shards), self._retention_ms, max_read=0), due
        )
        return [shard for shards in found for shard in shards]

    async def process_due(self, shards: Sequence[str]) -> SweepResult:
        """Process the deadlines that are due, at most 32 of each kind in each shard.

        Notes the sizes of shards in which nothing is left to do, for counts.
        Shards that may have more are returned in ``shards_with_more``.
        """
        warned = expired = forgotten = repaired = 0
        shards_with_more = []
        arguments = SweepArguments(self._retention_ms, _MAX_DEADLINES)
        for n in range(0, len(shards), MAX_SHARDS_PER_CALL):
            chunk = shards[n : n + MAX_SHARDS_PER_CALL]
            replies = await self._sweep.run(arguments, _of_one, chunk)
            for shard, swept in replies:
                for session_id in swept.unreadable:
                    self._unreadable.log(unpack_id(session_id))
                for ms in swept.late.split():
                    self._measures.sweep_lateness.observe(int(ms) / 1000)
                warned += swept.warned
                expired += swept.expired
                forgotten += swept.forgotten
                if swept.more:
                    shards_with_more.append(shard)
                else:
                    self._known_sizes.note(shard, _sizes(*swept.sizes))
                if swept.lost and not self._quarantine.must_wait(f"shard {shard}", "repair"):
                    with self._quarantine.isolating(f"shard {shard}", "repair"):
                        lost_ids = tuple(swept.lost)
                        removed, _ = await self._repairs.remove_lost(shard, lost_ids=lost_ids)
                        repaired += removed
        self._measures.transitions["expiring"].add(warned)
        self._measures.transitions["expired"].add(expired)
        return SweepResult(warned, expired, forgotten, repaired, tuple(shards_with_more))

    async def sweep(self) -> SweepResult:
        """Process the deadlines that are due in all shards, as ``process_due`` does."""
        due = [shard for block in SHARD_BLOCKS for shard in await self.find_due(block)]
        return await self.process_due(due)


def _of_one(shards: Sequence[str], swept: Swept) -> tuple[str, Swept]:
    (shard,) = shards
    return shard, swept


def _sizes(warn: int, expire: int, forget: int, unreadable: int) -> ShardSizes:
    return ShardSizes(0, warn + expire, expire, forget, unreadable, lag_ms=0)
