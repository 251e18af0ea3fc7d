"""Consumers of the outbox: each event goes to one node of a group, until it is handled.

A consumer group on each shard's stream keeps the events that a node is working on. The nodes take
turns: a shard's next events can be read once the last ones were acknowledged, which keeps their
order. If a node has not acknowledged its events within 10 seconds, the next node that asks gets
them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from session_service.domain.events import EventId
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.scripts.events import (
    ACKNOWLEDGE,
    NEXT,
    AcknowledgeArguments,
    GivenEntries,
    NextArguments,
)
from session_service.store.shards import ShardGroups

PATIENCE_MS = 10_000  # after which a node that has not acknowledged its events counts as gone

_MAX_SHARDS = 32  # in one call, if the store allows more than one
_MAX_EVENTS = 32  # of a shard at a time; 32 shards are about 5 ms of Redis


class Entry(NamedTuple):
    """An event as the outbox has it, e.g. ``renewed <session> <agent> <user> 1764001800000 3``."""

    id: EventId
    event: bytes


class Batch(NamedTuple):
    """The next events of a shard, in order."""

    shard: str
    entries: list[Entry]
    ids: list[bytes]  # to be acknowledged
    lost: int  # events that were trimmed before a node could read them

    @property
    def may_have_more(self) -> bool:
        """Whether the shard may have more events by now."""
        return len(self.ids) == _MAX_EVENTS


class Consumer:
    """A node of a group such as ``webhooks``, whose nodes share the events of all shards."""

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        group: str,
        quarantine: Quarantine,
        *,
        patience_ms: int = PATIENCE_MS,
    ) -> None:
        self.quarantine = quarantine
        self.group = group
        self._patience_ms = patience_ms
        self._next = ShardGroups(executor, keys, NEXT, self.quarantine, together=_MAX_SHARDS)
        self._acknowledge = ShardGroups(executor, keys, ACKNOWLEDGE, self.quarantine)

    async def next(self, since: int) -> list[Batch]:
        """Return the next events of each shard, except those that other nodes are working on.

        A shard that the group has not read yet starts at ``since`` (epoch ms). Shards that cannot
        be read are left out. Raises StoreUnavailable.
        """
        arguments = NextArguments(self.group, self._patience_ms, _MAX_EVENTS, since)
        return [batch for found in await self._next.run(arguments, _batches) for batch in found]

    async def acknowledge(self, batches: list[Batch]) -> None:
        """Note that batches were handled: no node gets them again. Raises StoreUnavailable."""
        ids = {batch.shard: tuple(batch.ids) for batch in batches}
        await self._acknowledge.run(
            lambda shards: AcknowledgeArguments(self.group, ids[shards[0]]),
            lambda _, reply: reply,
            list(ids),
        )


def _batches(shards: Sequence[str], found: list[GivenEntries]) -> list[Batch]:
    return [_batch(shards[each.number], each.entries) for each in found]


def _batch(shard: str, entries: list[tuple[bytes, list[bytes] | None]]) -> Batch:
    found = []
    for entry_id, fields in entries:
        if fields:
            ms, _, number = entry_id.partition(b"-")
            found.append(Entry(EventId(int(ms), shard, int(number)), fields[1]))
    return Batch(shard, found, [entry_id for entry_id, _ in entries], len(entries) - len(found))
