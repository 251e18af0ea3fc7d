"""Samples of events, by which an endpoint of a webhook is tested.

A sample has the form of a real event of its type, and ``"test": true`` besides. Its ids begin with
``7e57`` and belong to nobody, so a receiver that looks up the session finds none.
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from session_service.domain.event_types import (
    CreatedDetails,
    EndedDetails,
    EventDetails,
    ExpiredDetails,
    ExpiringDetails,
    MessageDetails,
    RenewedDetails,
    UpdatedDetails,
)
from session_service.domain.events import Event, EventId
from session_service.domain.ids import RandomBytes, shard_of_session
from session_service.domain.timeouts import MS_PER_MINUTE, TimeoutConfig, TimeoutInfo

_SESSION, _USER, _AGENT, _MESSAGE = (f"7e570000-0000-4000-8000-{n:012}" for n in range(1, 5))

_TIMEOUT_MS = 30 * MS_PER_MINUTE
_WARNING_MINUTES = 5
_CONFIG = TimeoutConfig(_TIMEOUT_MS, True, 24 * _TIMEOUT_MS, _WARNING_MINUTES * MS_PER_MINUTE)
_CONTENT = "This is a test."

# By type, the details of an event that happens at a time in epoch milliseconds.
_DETAILS: Mapping[str, Callable[[int], EventDetails]] = {
    "created": lambda at: CreatedDetails(at + _TIMEOUT_MS),
    "message": lambda at: MessageDetails(_MESSAGE, _USER, False, at, _CONTENT),
    "renewed": lambda at: RenewedDetails(at + _TIMEOUT_MS, 1),
    "updated": lambda at: UpdatedDetails(at + _TIMEOUT_MS, TimeoutInfo.of(_CONFIG), "timeout"),
    "expiring": lambda at: ExpiringDetails(at + _WARNING_MINUTES * MS_PER_MINUTE, _WARNING_MINUTES),
    "expired": ExpiredDetails,
    "ended": lambda _: EndedDetails(by="server"),
}


class Sample(Event, frozen=True):
    """An event that did not happen."""

    def cloud_event(self) -> dict[str, Any]:
        """Return the event in the form of CloudEvents 1.0, with the extension ``test``."""
        return {**super().cloud_event(), "test": True}


def sample_of(name: str, at: int, random: RandomBytes, *, with_content: bool) -> Sample:
    """Return a sample of a type, e.g. ``created``, which happens at ``at`` (epoch milliseconds).

    Its id is new each time, because receivers pass over an id that they know. A message has its
    content only ``with_content``, as real ones do.
    """
    details = _DETAILS[name](at)
    if isinstance(details, MessageDetails) and not with_content:
        details = replace(details, content=UNSET)
    position = EventId(at, shard_of_session(_SESSION) or "", int.from_bytes(random(7)))
    return Sample(position, name, _SESSION, _USER, _AGENT, details)
