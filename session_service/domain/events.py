"""Events: what happened to a session, in which order, and how that is told to the outside.

=========  =======================================================================
type       what it says in ``data``, beside the session, its user and its agent
=========  =======================================================================
created    expiresAt
message    messageId, authorId, isAgent, createdAt; content, where that is asked for
renewed    expiresAt, renewalCount
updated    expiresAt, timeoutConfig
expiring   expiresAt, minutesRemaining: whole minutes, begun ones counted
expired    expiredAt
ended      reason, where there is one
=========  =======================================================================
"""

import re
from typing import Any, NamedTuple

import msgspec

from session_service.domain.errors import ValidationFailed
from session_service.domain.ids import SHARDS, shard_of_session, shard_of_user
from session_service.domain.times import iso

EVENT_TYPES = ("created", "message", "renewed", "updated", "expiring", "expired", "ended")
LAST_TYPES = frozenset(("expired", "ended"))  # after which a session has no more events
MAX_RETENTION_MS = 7 * 24 * 3_600_000  # for how long events can be kept; LONGEST in lua/outbox.lua

LAST_NUMBER = 2**64 - 1  # that an event can have
EVENT_ID_PATTERN = r"\A([0-9]{1,15})-([0-9a-fA-F]{2})-([0-9]{1,20})\Z"
_is_id = re.compile(EVENT_ID_PATTERN).fullmatch


class EventId(NamedTuple):
    """What orders the events of all sessions: the store's time, then the shard, then a number.

    Those of a session are in one shard, so theirs is the order in which they happened. Also a
    position: the one after this event. ``str`` writes it as ``<ms>-<shard>-<number>``.
    """

    ms: int  # epoch milliseconds
    shard: str
    number: int  # counts the events of a shard and millisecond, from 0

    def __str__(self) -> str:
        return f"{self.ms}-{self.shard}-{self.number}"

    @classmethod
    def parse(cls, text: str, field: str) -> "EventId":
        """Read what ``str`` wrote, in either case; raises ValidationFailed for the field."""
        found = _is_id(text)
        if not found or int(found[3]) > LAST_NUMBER:
            raise ValidationFailed(field, "must be the id of an event, such as 1764000000000-3f-0")
        return cls(int(found[1]), found[2].lower(), int(found[3]))

    @classmethod
    def before(cls, ms: int) -> "EventId":
        """Return the position before a millisecond."""
        return cls(ms - 1, SHARDS[-1], LAST_NUMBER)


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a session. ``data`` has JSON's values and names."""

    position: EventId
    type: str  # of EVENT_TYPES
    session_id: str
    user_id: str
    agent_id: str
    data: dict[str, Any]

    @property
    def id(self) -> str:
        """The id, as the outside knows it."""
        return str(self.position)

    @property
    def at(self) -> int:
        """When it happened: epoch milliseconds by the store's clock."""
        return self.position.ms

    def __hash__(self) -> int:
        return hash(self.position)

    def cloud_event(self) -> dict[str, Any]:
        """Return the event in the form of CloudEvents 1.0, ready for JSON."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": f"/api/messaging/sessions/{self.session_id}",
            "type": f"session.{self.type}",
            "subject": self.session_id,
            "time": iso(self.at),
            "datacontenttype": "application/json",
            "data": {
                "sessionId": self.session_id,
                "userId": self.user_id,
                "agentId": self.agent_id,
                **self.data,
            },
        }


class EventFilter(msgspec.Struct, frozen=True):
    """Which events are wanted; None: whatever it is. Ids in lower case."""

    session_id: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    types: frozenset[str] | None = None

    def matches(self, event: Event) -> bool:
        """Tell whether an event is wanted."""
        return (
            (self.session_id is None or self.session_id == event.session_id)
            and (self.user_id is None or self.user_id == event.user_id)
            and (self.agent_id is None or self.agent_id == event.agent_id)
            and (self.types is None or event.type in self.types)
        )

    @property
    def shards(self) -> tuple[str, ...]:
        """The shards in which there can be events that match."""
        if self.session_id is not None:
            return (shard_of_session(self.session_id) or SHARDS[0],)
        return SHARDS if self.user_id is None else (shard_of_user(self.user_id),)


class EventPolicy(msgspec.Struct, frozen=True):
    """What the outbox holds, and for how long."""

    max_length: int = 500_000  # events in all, about; each takes some 150 bytes
    retention_ms: int = 3_600_000
    content: bool = False  # whether the event of a message has its content
