"""The types of events: for each a struct, which decodes the announcement and is encoded as JSON.

A script announces an event with a detail (``store/lua/outbox.lua``), e.g. for ``renewed`` the text
``1764000060000 3``. That is decoded into ``RenewedDetails(1764000060000, 3)``, and clients receive
``{"expiresAt": "2025-11-24T16:01:00.000Z", "renewalCount": 3}``. The schema in the API document is
made from the same struct.

To add a type, add a struct, put it into EVENT_DETAILS, and announce it in a script.
"""

from functools import cache
from typing import Annotated, Any, ClassVar, Self

import msgspec
from msgspec import UNSET, Meta, UnsetType

from session_service.domain.timeouts import MS_PER_MINUTE, TimeoutConfig, TimeoutInfo
from session_service.domain.times import LATEST_MS, iso

EpochMs = Annotated[int, Meta(description="epoch milliseconds; in JSON, ISO 8601")]


def _number(text: str) -> int:
    """Read a number, which must not be beyond the year 9999 as a time; raises ValueError."""
    number = int(text)
    if not 0 <= number <= LATEST_MS:
        raise ValueError(f"{number} is out of range")
    return number


class Announcement(msgspec.Struct, frozen=True):
    """An event as a script announced it. ``at`` is when: epoch milliseconds."""

    at: int
    user_id: str
    agent_id: str
    detail: str  # e.g. "1764000060000 3"


class EventDetails(msgspec.Struct, frozen=True, rename="camel"):
    """The data of an event, without the session, its user and its agent."""

    type: ClassVar[str]
    is_last: ClassVar[bool] = False  # whether the session has no more events after it

    @classmethod
    def decode(cls, announced: Announcement) -> Self:
        """Read the detail of an announcement; raises ValueError.

        By default it is whole numbers, one for each field in their order, separated by spaces.
        Any further numbers are passed over: a newer version announces them.
        """
        names = cls.__struct_fields__
        numbers = announced.detail.split(" ", len(names))[: len(names)]
        if len(numbers) < len(names):
            raise ValueError(f"{len(names)} numbers were announced as {announced.detail!r}")
        return cls(*map(_number, numbers))

    def to_json(self) -> dict[str, Any]:
        """Return the details as JSON has them: names in camel case, times in ISO 8601."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        for name in _names_of_times(type(self)):
            data[name] = iso(data[name])
        return data


@cache
def _names_of_times(details: type[EventDetails]) -> list[str]:
    """Return the names, in JSON, of the fields that are times."""
    return [f.encode_name for f in msgspec.structs.fields(details) if f.type == EpochMs]


class CreatedDetails(EventDetails, frozen=True):
    """The session was created.

    Announced as ``<expires at>``, e.g. ``1764001800000``.
    """

    type: ClassVar[str] = "created"

    expires_at: EpochMs


class MessageDetails(EventDetails, frozen=True):
    """A message was stored.

    Announced as ``<message id> <user|agent> <created at>``, and the content if that is asked for.
    """

    type: ClassVar[str] = "message"

    message_id: str
    author_id: str
    is_agent: bool
    created_at: EpochMs
    content: (
        Annotated[str, Meta(description="only if SESSION_EVENTS_CONTENT is true")] | UnsetType
    ) = UNSET

    @classmethod
    def decode(cls, announced: Announcement) -> Self:
        """Read e.g. ``9b2f6c1e-… user 1764000000000 Hello there``; raises ValueError."""
        message_id, by, created_at, *content = announced.detail.split(" ", 3)
        is_agent = by == "agent"
        return cls(
            message_id,
            announced.agent_id if is_agent else announced.user_id,
            is_agent,
            _number(created_at),
            content[0] if content else UNSET,
        )


class RenewedDetails(EventDetails, frozen=True):
    """The session was renewed, by a request or by activity.

    Of the renewals by activity only some are announced, see ``store/lua/renewal.lua``.

    Announced as ``<expires at> <renewals>``, e.g. ``1764001800000 3``.
    """

    type: ClassVar[str] = "renewed"

    expires_at: EpochMs
    renewal_count: int


class UpdatedDetails(EventDetails, frozen=True):
    """The timeout or the metadata of the session was changed.

    Announced as ``<expires at> <timeout> <maximum duration> <warning threshold> <renews: 0|1>
    <timeout|metadata>``.
    """

    type: ClassVar[str] = "updated"

    expires_at: EpochMs
    timeout_config: TimeoutInfo
    changed: Annotated[str, Meta(extra_json_schema={"enum": ["timeout", "metadata"]})]

    @classmethod
    def decode(cls, announced: Announcement) -> Self:
        """Read e.g. ``1764000000000 1800000 43200000 300000 1 timeout``; raises ValueError."""
        *numbers, changed = announced.detail.split(" ")[:6]
        expires_at, timeout, max_duration, warning, auto_renew = map(_number, numbers)
        config = TimeoutConfig(timeout, bool(auto_renew), max_duration, warning)
        return cls(expires_at, TimeoutInfo.of(config), changed)


class ExpiringDetails(EventDetails, frozen=True):
    """The warning threshold of the session was reached.

    Announced as ``<expires at>``, e.g. ``1764000299000``.
    """

    type: ClassVar[str] = "expiring"

    expires_at: EpochMs
    minutes_remaining: Annotated[int, Meta(description="whole minutes, begun ones counted")]

    @classmethod
    def decode(cls, announced: Announcement) -> Self:
        """Read e.g. ``1764000299000``; raises ValueError."""
        expires_at = _number(announced.detail.partition(" ")[0])
        return cls(expires_at, -((announced.at - expires_at) // MS_PER_MINUTE))


class ExpiredDetails(EventDetails, frozen=True):
    """The session ran out.

    Announced as ``<expired at>``, e.g. ``1764001800000``.
    """

    type: ClassVar[str] = "expired"
    is_last: ClassVar[bool] = True

    expired_at: EpochMs


class EndedDetails(EventDetails, frozen=True):
    """The session was ended.

    Announced as ``<reason> <by>`` with ``-`` for no reason, e.g. ``bulk server`` or ``- user``.
    With access control off as the reason alone, or without a detail if there is none.
    """

    type: ClassVar[str] = "ended"
    is_last: ClassVar[bool] = True

    reason: (
        Annotated[
            str,
            Meta(description="bulk, or replaced by a newer session; absent if it was ended alone"),
        ]
        | UnsetType
    ) = UNSET
    by: (
        Annotated[
            str,
            Meta(
                description="only if access control is on",
                extra_json_schema={"enum": ["user", "server", "limit"]},
            ),
        ]
        | UnsetType
    ) = UNSET

    @classmethod
    def decode(cls, announced: Announcement) -> Self:
        """Read e.g. ``bulk server``, ``- user`` or ``bulk``."""
        reason, *by = announced.detail.split(" ")[:2]
        return cls(UNSET if reason == "-" else reason, by[0] if by else UNSET)


EVENT_DETAILS: dict[str, type[EventDetails]] = {
    details.type: details
    for details in (
        CreatedDetails,
        MessageDetails,
        RenewedDetails,
        UpdatedDetails,
        ExpiringDetails,
        ExpiredDetails,
        EndedDetails,
    )
}
EVENT_TYPES = tuple(EVENT_DETAILS)
LAST_TYPES = frozenset(name for name, details in EVENT_DETAILS.items() if details.is_last)
