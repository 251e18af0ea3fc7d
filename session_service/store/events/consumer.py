"""The outbox, consumed: each event is given out until somebody is done with it.

A consumer group on each shard's stream remembers what was given out. The nodes take turns: a
shard's next events are given out once its last ones are done, which keeps their order. What a node
did not get done for some seconds is given to the next that asks.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from session_service.domain.events import EventId
from session_service.store import scripts
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.shards import ShardGroups

PATIENCE_MS = 10_000  # with a node that has not got done

_TOGETHER = 32  # shards in one call, where they can be
_MOST = 32  # events of a shard at a time; 32 shards are about 5 ms of Redis


class Entry(NamedTuple):
    """An event as the outbox has it (records.py)."""

    id: EventId
    event: bytes


class Batch(NamedTuple):
    """What was given out of a shard, in order; ``lost`` was trimmed before it could be."""

    shard: str
    entries: list[Entry]
    ids: list[bytes]
    lost: int

    @property
    def more(self) -> bool:
        """Whether the shard may have more."""
        return len(self.ids) == _MOST


class Consumer:
    """A group of consumers, such as ``webhooks``: every event is given to one of its nodes."""

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        group: str = "webhooks",
        patience_ms: int = PATIENCE_MS,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.quarantine = Quarantine() if quarantine is None else quarantine
        self._group = group
        self._patience_ms = patience_ms
        self._next = ShardGroups(
            executor, keys, scripts.OUTBOX_NEXT, self.quarantine, together=_TOGETHER
        )
        self._done = ShardGroups(executor, keys, scripts.OUTBOX_DONE, self.quarantine)

    async def next(self, since: int) -> list[Batch]:
        """Return what follows in every shard, or nothing where others are at it.

        ``since``, epoch ms, is where a shard starts that was never consumed. Shards that cannot be
        read are left out. Raises StoreUnavailable.
        """
        arguments = (self._group, self._patience_ms, _MOST, since)
        return [batch for found in await self._next.run(arguments, _batches) for batch in found]

    async def done(self, batches: list[Batch]) -> None:
        """Acknowledge the batches: nobody is given them again. Raises StoreUnavailable."""
        ids = {batch.shard: batch.ids for batch in batches}
        await self._done.run(
            lambda shards: (self._group, *ids[shards[0]]), lambda _, reply: reply, list(ids)
        )


def _batches(shards: Sequence[str], reply: Any) -> list[Batch]:
    """Return what each shard has (lua/webhooks/next.lua)."""
    return [
        _batch(shards[number], entries)
        for number, entries in zip(reply[::2], reply[1::2], strict=True)
    ]


def _batch(shard: str, entries: list[tuple[bytes, list[bytes] | None]]) -> Batch:
    found = []
    for entry_id, fields in entries:
        if fields:
            ms, _, number = entry_id.partition(b"-")
            found.append(Entry(EventId(int(ms), shard, int(number)), fields[1]))
    return Batch(shard, found, [entry_id for entry_id, _ in entries], len(entries) - len(found))
