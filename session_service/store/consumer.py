"""The outbox, consumed: each event is given out until somebody is done with it.

A consumer group on each shard's stream remembers what was given out. The nodes take turns: a
shard's next events are given out once its last ones are done, which keeps their order. What a node
did not get done for some seconds is given to the next that asks.
"""

import asyncio
from typing import NamedTuple

from session_service.domain.events import EventId
from session_service.domain.ids import SHARDS
from session_service.store import scripts
from session_service.store.keys import Keys, KeySet
from session_service.store.pipeline import Pipeline

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
    """The group of the webhooks."""

    def __init__(self, pipeline: Pipeline, keys: Keys, patience_ms: int = PATIENCE_MS) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._patience_ms = patience_ms
        size = _TOGETHER if pipeline.spans_shards else 1
        parts = [SHARDS[n : n + size] for n in range(0, len(SHARDS), size)]
        self._groups: list[tuple[tuple[str, ...], KeySet]] = [
            (part, keys.of_shards(scripts.OUTBOX_NEXT.keys, part)) for part in parts
        ]

    async def next(self, since: int) -> list[Batch]:
        """Return what follows in every shard, or nothing where others are at it.

        ``since``, epoch ms, is where a shard starts that was never consumed. Raises
        StoreUnavailable.
        """
        replies = await asyncio.gather(
            *(
                self._pipeline.ask(scripts.OUTBOX_NEXT, keys, (self._patience_ms, _MOST, since))
                for _, keys in self._groups
            )
        )
        return [
            _batch(shards[number], entries)
            for (shards, _), reply in zip(self._groups, replies, strict=True)
            for number, entries in zip(reply[::2], reply[1::2], strict=True)
        ]

    async def done(self, batches: list[Batch]) -> None:
        """Tell that nobody need be given these again. Raises StoreUnavailable."""
        await self._pipeline.run_all(
            scripts.OUTBOX_DONE,
            [
                (self._keys.of_shard(scripts.OUTBOX_DONE.keys, batch.shard), tuple(batch.ids))
                for batch in batches
            ],
        )


def _batch(shard: str, entries: list[tuple[bytes, list[bytes] | None]]) -> Batch:
    found = []
    for entry_id, fields in entries:
        if fields:
            ms, _, number = entry_id.partition(b"-")
            found.append(Entry(EventId(int(ms), shard, int(number)), fields[1]))
    return Batch(shard, found, [entry_id for entry_id, _ in entries], len(entries) - len(found))
