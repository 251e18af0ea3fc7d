"""Events of sessions: their ids, their order, and the form in which clients receive them.

Each type of event is a struct in ``event_types.py``, which also lists the types.
"""

import re
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from session_service.domain.credentials import Credential
from session_service.domain.errors import ValidationFailed
from session_service.domain.event_types import EventDetails
from session_service.domain.ids import SHARDS, shard_of_session, shard_of_user
from session_service.domain.times import iso

MAX_RETENTION_MS = 7 * 24 * 3_600_000  # the longest that events can be kept

LAST_NUMBER = 2**64 - 1  # the highest number in an event id
EVENT_ID_PATTERN = r"\A([0-9]{1,15})-([0-9a-fA-F]{2})-([0-9]{1,20})\Z"
_is_id = re.compile(EVENT_ID_PATTERN).fullmatch


class EventId(NamedTuple):
    """Orders the events of all sessions: by the store's time, then the shard, then a number.

    The events of one session are in one shard, so they are in the order in which they happened.
    An id is also a position in the outbox: the one directly after its event. As text it is
    ``<ms>-<shard>-<number>``, e.g. ``1764000000000-3f-0``.
    """

    ms: int  # epoch milliseconds
    shard: str
    number: int  # counts the events of a shard and millisecond, from 0

    def __str__(self) -> str:
        return f"{self.ms}-{self.shard}-{self.number}"

    @classmethod
    def parse(cls, text: str, field: str) -> "EventId":
        """Read an id such as ``1764000000000-3f-0``, in either case.

        Raises ValidationFailed, which names the field.
        """
        found = _is_id(text)
        if not found or int(found[3]) > LAST_NUMBER:
            raise ValidationFailed(field, "must be the id of an event, such as 1764000000000-3f-0")
        return cls(int(found[1]), found[2].lower(), int(found[3]))

    @classmethod
    def before(cls, ms: int) -> "EventId":
        """Return the last position before a millisecond, e.g. ``999-ff-18446744073709551615``."""
        return cls(ms - 1, SHARDS[-1], LAST_NUMBER)


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a session."""

    position: EventId
    type: str  # one of EVENT_TYPES
    session_id: str
    user_id: str
    agent_id: str
    details: EventDetails | None = None  # None: nothing but that it happened

    @property
    def id(self) -> str:
        """The id that clients know it by, e.g. ``1764000000000-3f-0``."""
        return str(self.position)

    @property
    def at(self) -> int:
        """When it happened: epoch milliseconds by the store's clock."""
        return self.position.ms

    @property
    def data(self) -> dict[str, Any]:
        """Its details, with the names and values of JSON, e.g. ``{"renewalCount": 3, …}``."""
        return self.details.to_json() if self.details is not None else {}

    def __hash__(self) -> int:
        return hash(self.position)

    def cloud_event(self) -> dict[str, Any]:
        """Return the event in the form of CloudEvents 1.0, ready for JSON; docs/events.md."""
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
    """Selects events. Ids are in lower case; None and UNSET select every value."""

    session_id: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    types: frozenset[str] | None = None
    agents: frozenset[str] | UnsetType = UNSET  # left out of records, in which others may be null

    def limited_to(self, credential: Credential) -> "EventFilter":
        """Return the filter of those of the events that exist for a credential.

        Raises NotPermitted if the credential may not act for the user or the agent.
        """
        credential.admit(user_id=self.user_id, agent_id=self.agent_id)
        return msgspec.structs.replace(
            self,
            user_id=self.user_id or credential.user,
            agents=UNSET if credential.agents is None else credential.agents,
        )

    def matches(self, event: Event) -> bool:
        """Return whether an event is selected."""
        return (
            (self.session_id is None or self.session_id == event.session_id)
            and (self.user_id is None or self.user_id == event.user_id)
            and (self.agent_id is None or self.agent_id == event.agent_id)
            and (self.types is None or event.type in self.types)
            and (self.agents is UNSET or event.agent_id in self.agents)
        )

    @property
    def shards(self) -> tuple[str, ...]:
        """The shards that can have events which match."""
        if self.session_id is not None:
            return (shard_of_session(self.session_id) or SHARDS[0],)
        return SHARDS if self.user_id is None else (shard_of_user(self.user_id),)


class EventPolicy(msgspec.Struct, frozen=True):
    """How much the outbox holds, and for how long."""

    max_length: int = 500_000  # events in all, about; each takes 90 to 150 bytes
    retention_ms: int = 3_600_000
    content: bool = False  # whether the event of a message has its content
