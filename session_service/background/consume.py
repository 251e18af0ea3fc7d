"""Consumers of events: the loop that every consumer runs, on every node.

A consumer is a group of nodes that share the events of the outbox, and a handler for the events.
To add one, write the handler in a module of this package, and run::

    await consume_forever(Consumer(executor, keys, "handoff", quarantine), Handoff())
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from session_service.domain.errors import RecordUnreadable, StoreUnavailable
from session_service.domain.events import Event
from session_service.store.availability import Availability
from session_service.store.events.consumer import Batch, Consumer, Entry
from session_service.store.records import unpack_event

_INTERVAL_SECONDS = 0.25  # between reads that found no more events
_IDLE_SECONDS = 2.0  # between questions to a handler that needs no events
_WORK = "consume"

log = logging.getLogger(__name__)


class ConsumedEvent(NamedTuple):
    """An event, as the outbox has it and decoded."""

    entry: Entry
    event: Event


class EventHandler(Protocol):
    """Handles the events that this node has read."""

    name: str  # in the quarantine, e.g. "webhook deliveries"

    async def since(self) -> int | None:
        """Return from which time on events are needed (epoch ms), or None if none are.

        It counts for a shard that the group has not read yet. Raises StoreUnavailable.
        """
        ...

    async def handle(self, events: Sequence[ConsumedEvent]) -> None:
        """Handle events; those of a shard are in order.

        They come again if it raises, and if this node stops before they are acknowledged, so it
        must tolerate an event twice. Raises StoreUnavailable.
        """
        ...


async def consume_forever(consumer: Consumer, handler: EventHandler) -> None:
    """Read events and have them handled, until this is cancelled.

    If the store is away, it is waited for. A shard or an event that cannot be read does not stop
    the others, and after a defect the loop goes on when its pause in the quarantine is over.
    """
    quarantine = consumer.quarantine
    store = Availability(consumer.group)
    while True:
        pause = quarantine.pause(handler.name, _WORK)
        if not pause:
            pause = _INTERVAL_SECONDS
            try:
                with quarantine.isolating(handler.name, _WORK):
                    pause = await _step(consumer, handler)
                store.answered()
            except StoreUnavailable as error:
                await store.wait_after(error)
        await asyncio.sleep(pause)


async def _step(consumer: Consumer, handler: EventHandler) -> float:
    """Handle the next events of each shard; return for how many seconds to pause."""
    since = await handler.since()
    if since is None:
        return _IDLE_SECONDS
    batches = await consumer.next(since)
    if not batches:
        return _INTERVAL_SECONDS
    await handler.handle(_decoded(consumer, batches))
    await consumer.acknowledge(batches)
    if lost := sum(batch.lost for batch in batches):
        message = f"events were trimmed before {consumer.group} had them"
        log.warning(message, extra={"events": lost})
    return 0 if any(batch.may_have_more for batch in batches) else _INTERVAL_SECONDS


def _decoded(consumer: Consumer, batches: Iterable[Batch]) -> list[ConsumedEvent]:
    """Decode the events; those that cannot be read are left out for good."""
    found = []
    for batch in batches:
        for entry in batch.entries:
            try:
                found.append(ConsumedEvent(entry, unpack_event(*entry)))
            except RecordUnreadable as error:
                consumer.quarantine.skipped(f"event {entry.id}", _WORK, error)
    return found
