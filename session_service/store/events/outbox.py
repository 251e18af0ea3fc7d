"""The outbox: the events of all sessions, bounded by age and length.

Each shard has a stream of its own; ``reader.py`` merges them. The pasts of the shards (``past.py``)
are kept here: by every node when it trims, and when a reader sees that the store's clock went back.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from session_service.domain.budgets import MARK_SECONDS, SEEN_SECONDS
from session_service.domain.events import MAX_RETENTION_MS, EventId, EventPolicy
from session_service.domain.ids import SHARDS
from session_service.store.client.executor import ScriptExecutor
from session_service.store.events.past import NO_DOUBT, ClockWatch, Doubt, Past
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.scripts.events import (
    MARK,
    READ,
    TRIM,
    MarkArguments,
    ReadArguments,
    ReadReply,
    TrimArguments,
    TrimReply,
)
from session_service.store.shards import ShardGroups

_MAX_SHARDS = 32  # read or trimmed in one call, if the store allows more than one
_MAX_TRIMMED = 1000  # events of a shard in one call

log = logging.getLogger(__name__)


class _Trimmed(NamedTuple):
    """The reply to a call that trims several shards."""

    clock: int  # epoch ms
    lengths: dict[str, int]
    counts: dict[str, int]  # of the events that were trimmed
    pasts: dict[str, Past | None]  # as they were before

    @classmethod
    def of(cls, shards: Sequence[str], reply: TrimReply) -> "_Trimmed":
        """Name the shards in a reply."""
        pairs = list(zip(shards, reply.shards, strict=True))
        return cls(
            reply.clock,
            {shard: each.left for shard, each in pairs},
            {shard: each.trimmed for shard, each in pairs},
            {shard: Past.parse(each.past) for shard, each in pairs},
        )


class Outbox:
    """The events that scripts announce (lua/outbox.lua)."""

    def __init__(self, executor: ScriptExecutor, keys: Keys, quarantine: Quarantine) -> None:
        self.quarantine = quarantine
        self.undecodable = 0  # events that were skipped since the start
        self.pasts: dict[str, Past] = {}  # by shard, as this process last saw them
        self._executor = executor
        self._keys = keys
        self._trim = ShardGroups(executor, keys, TRIM, self.quarantine, together=_MAX_SHARDS)
        self._mark = ShardGroups(executor, keys, MARK, self.quarantine, together=_MAX_SHARDS)
        self._lengths = dict.fromkeys(SHARDS, 0)  # as they were last seen
        self._clocks = ClockWatch()
        self._doubts: dict[str, Doubt] = {}  # by shard, to be written

    async def trim(self, policy: EventPolicy) -> None:
        """Trim all shards to about the age and the length of the policy, the longest ones most.

        Raises StoreUnavailable.
        """
        arguments = TrimArguments(
            max_events=_fair_share(self._lengths.values(), policy.max_length),
            retention_ms=policy.retention_ms,
            past_ms=MAX_RETENTION_MS,
            limit=_MAX_TRIMMED,
            mark_ms=1000 * MARK_SECONDS,
            seen_ms=1000 * SEEN_SECONDS,
        )
        busy: Sequence[str] = SHARDS
        while busy:
            counts: dict[str, int] = {}
            for n in range(0, len(busy), _MAX_SHARDS):  # one call at a time: each can take 5 ms
                shards = busy[n : n + _MAX_SHARDS]
                sent = asyncio.get_running_loop().time()
                for trimmed in await self._trim.run(arguments, _Trimmed.of, shards):
                    self._lengths.update(trimmed.lengths)
                    counts.update(trimmed.counts)
                    for shard, past in trimmed.pasts.items():
                        self.compare_past(shard, past, trimmed.clock)
                    self.check_clock(trimmed.lengths, trimmed.clock, sent)
                await self.write_doubts()
            busy = [shard for shard, events in counts.items() if events >= _MAX_TRIMMED // 2]

    @property
    def length(self) -> int:
        """How many events there are, as of the last trimming."""
        return sum(self._lengths.values())

    @property
    def gone_until(self) -> int:
        """The time (epoch ms) after which no event was trimmed in any shard; 0 if none was."""
        trimmed = (past.gone for past in self.pasts.values() if not past.is_whole)
        return max(trimmed, default=0)

    def read_calls(self, shards: Sequence[str]) -> ShardGroups[ReadArguments, ReadReply]:
        """Return the calls by which these shards are read."""
        return ShardGroups(
            self._executor, self._keys, READ, self.quarantine, together=_MAX_SHARDS, shards=shards
        )

    def check_clock(self, shards: Iterable[str], clock: int, sent: float) -> bool:
        """Return whether the clock of a reply (epoch ms) shows that the store's clock went back.

        The reply is about these shards; its call was sent at ``sent`` (monotonic seconds). Some of
        their positions are doubtful then: call ``write_doubts``.
        """
        received = asyncio.get_running_loop().time()
        # All shards of the same server have the same clock.
        shards = SHARDS if self._executor.spans_shards else tuple(shards)
        doubt = self._clocks.observe(shards[0], clock, sent, received) if shards else None
        if doubt is not None:
            back_ms = round(doubt.until - doubt.after)
            log.warning("the store's clock went back", extra={"ms": back_ms, "at": clock})
            self.doubt(shards, doubt)
        return doubt is not None

    def doubt(self, shards: Iterable[str], doubt: Doubt) -> None:
        """Refuse such positions of these shards from clients, once ``write_doubts`` was called."""
        for shard in shards:
            self._doubts[shard] = doubt.merged_with(self._doubts.get(shard))

    async def write_doubts(self) -> None:
        """Write the doubtful positions to the store, for all nodes.

        Raises StoreUnavailable; it must be called again then.
        """
        while self._doubts:
            doubt = next(iter(self._doubts.values()))
            shards = [shard for shard, other in self._doubts.items() if other == doubt]
            await self.begin_pasts(shards, doubt)
            for shard in shards:
                if self._doubts.get(shard) == doubt:
                    del self._doubts[shard]

    async def begin_pasts(self, shards: Sequence[str], doubt: Doubt = NO_DOUBT) -> None:
        """Begin the past of each shard that has none, e.g. because the store was emptied."""
        arguments = MarkArguments(doubt.after, doubt.until, MAX_RETENTION_MS)
        await self._mark.run(arguments, _nothing, shards)

    def skip(self, position: EventId, error: Exception) -> None:
        """Count an event that cannot be decoded; log the first one."""
        self.undecodable += 1
        if self.undecodable == 1:
            log.error(
                "an event cannot be decoded and is skipped; others will not be logged",
                extra={"position": str(position), "reason": f"{type(error).__name__}: {error}"},
            )

    def compare_past(self, shard: str, past: Past | None, clock: int) -> None:
        """Compare the past of a shard with the one that this process knows, and keep it.

        Positions are doubtful if the data set is another one, or an older copy.
        """
        known = self.pasts.get(shard)
        if past is known:
            return
        if past is None:
            del self.pasts[shard]
            return
        if known is not None and past.epoch != known.epoch:
            self.doubt((shard,), Doubt(0, clock))
        elif known is not None and past.mark < known.mark and past.doubt.until < known.mark:
            self.doubt((shard,), Doubt(past.mark, clock))
        self.pasts[shard] = past


def _nothing(_: Sequence[str], __: None) -> None:
    """Read a reply without content."""


def _fair_share(sizes: Iterable[int], total: int) -> int:
    """Return the most that each may have of a total, if those that need less leave the rest.

    For example, of 100 for the sizes 10, 80 and 90 it is 45.
    """
    left = total
    ascending = sorted(sizes)
    for n, size in enumerate(ascending):
        share = left // (len(ascending) - n)
        if size > share:
            return share
        left -= size
    return total
