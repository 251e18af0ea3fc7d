"""Requests, as they travel: the types the handlers are given and the API document shows.

The description of a field completes the sentence "<field> must be ...", in messages as in the
document. What stands in ``{braces}``, there and for a bound, is a value of the TimeoutPolicy.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from session_service.domain.events import EVENT_ID_PATTERN, EVENT_TYPES
from session_service.domain.ids import UUID_PATTERN
from session_service.domain.timeouts import TimeoutPolicy

MAX_METADATA_BYTES = 10_240
MAX_MOMENT = 8_640_000_000_000_000  # the last millisecond that a JavaScript Date can hold

Uuid = Annotated[str, Meta(pattern=UUID_PATTERN, description="a UUID")]
Metadata = Annotated[
    dict[str, Any],
    Meta(description=f"an object of at most {MAX_METADATA_BYTES:,} bytes as compact UTF-8 JSON"),
]


def describe(description: str, policy: TimeoutPolicy) -> str:
    """Fill a description's braces."""
    return description.format(
        min_timeout=policy.min_timeout,
        max_timeout=policy.max_timeout,
        max_max_duration=policy.max_max_duration,
    )


class Request(Struct, rename="camel"):
    """A request. Fields it does not know are passed over."""


TimeoutMinutes = Annotated[
    float,
    Meta(
        description="a number of minutes from {min_timeout:.10g} to {max_timeout:.10g}",
        extra_json_schema={"minimum": "{min_timeout}", "maximum": "{max_timeout}"},
    ),
]
MaxDurationMinutes = Annotated[
    float,
    Meta(
        description="a number of minutes from {min_timeout:.10g} to {max_max_duration:.10g},"
        " at least timeoutMinutes",
        extra_json_schema={"minimum": "{min_timeout}", "maximum": "{max_max_duration}"},
    ),
]
WarningThresholdMinutes = Annotated[
    float,
    Meta(
        description="a number of minutes above 0, at most timeoutMinutes",
        extra_json_schema={"exclusiveMinimum": 0, "maximum": "{max_timeout}"},
    ),
]
AutoRenew = Annotated[bool, Meta(description="a boolean")]


class TimeoutSettings(Request):
    """How a session times out; what is left out takes the default, or stays as it is."""

    timeout_minutes: TimeoutMinutes | UnsetType = UNSET
    auto_renew: AutoRenew | UnsetType = UNSET
    max_duration_minutes: MaxDurationMinutes | UnsetType = UNSET
    warning_threshold_minutes: WarningThresholdMinutes | UnsetType = UNSET


class CreateSession(Request):
    """A session to be created."""

    agent_id: Uuid
    user_id: Uuid
    metadata: Metadata | UnsetType = UNSET
    timeout_config: (
        Annotated[TimeoutSettings, Meta(description="an object of timeout settings")] | UnsetType
    ) = UNSET


class Attachment(Request):
    """Something a message refers to; further members are kept as they are."""

    type: Annotated[
        str, Meta(min_length=1, description="a string such as image, file, audio, video, document")
    ]
    url: Annotated[str, Meta(min_length=1, description="a string that is not empty")]
    name: Annotated[str, Meta(description="a string")] | UnsetType = UNSET


class SendMessage(Request):
    """A message to be sent."""

    content: Annotated[
        str, Meta(min_length=1, max_length=4000, description="a string of 1 to 4000 characters")
    ]
    author_id: (
        Annotated[
            str,
            Meta(pattern=UUID_PATTERN, description="the session's userId (the default) or agentId"),
        ]
        | UnsetType
    ) = UNSET
    metadata: Metadata | UnsetType = UNSET
    attachments: (
        Annotated[
            list[
                Annotated[
                    dict[str, Any],
                    Meta(
                        description="an object with type and url",
                        extra_json_schema={"$ref": "#/components/schemas/Attachment"},
                    ),
                ]
            ],
            Meta(max_length=10, description="an array of at most 10 attachments"),
        ]
        | UnsetType
    ) = UNSET


class ListSessions(Request):
    """The query of a listing."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="a whole number from 1 to 1000")] = 100
    cursor: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=200,
                description="the nextCursor of an earlier page of the same listing",
            ),
        ]
        | UnsetType
    ) = UNSET
    user_id: Uuid | UnsetType = UNSET
    agent_id: Uuid | UnsetType = UNSET


class EndSessions(Request, forbid_unknown_fields=True):
    """Whose sessions to end; a name that is misspelt must not end more than was meant."""

    user_id: Uuid | UnsetType = UNSET
    agent_id: Uuid | UnsetType = UNSET
    all_: Annotated[Literal["true"], Meta(description="true")] | UnsetType = msgspec.field(
        default=UNSET, name="all"
    )


Moment = Annotated[
    str,
    Meta(
        description="epoch milliseconds, or an ISO 8601 time such as 2026-01-15T10:30:45.123Z",
        extra_json_schema={
            "oneOf": [
                {"type": "integer", "minimum": 0, "maximum": MAX_MOMENT},
                {"type": "string", "format": "date-time"},
            ],
        },
    ),
]


class ReadHistory(Request):
    """The query of a history. ``before`` and ``after`` are exclusive."""

    limit: Annotated[int, Meta(ge=1, le=100, description="a whole number from 1 to 100")] = 50
    before: Moment | UnsetType = UNSET
    after: Moment | UnsetType = UNSET


LastEventId = Annotated[
    str,
    Meta(
        description="the id of an event, such as 1764000000000-3f-0",
        extra_json_schema={"pattern": EVENT_ID_PATTERN},
        extra={"header": "Last-Event-ID"},
    ),
]


class StreamSessionEvents(Request):
    """The query of a stream of one session's events."""

    last_event_id: LastEventId | UnsetType = UNSET


class StreamEvents(Request):
    """The query of a stream of events."""

    user_id: Uuid | UnsetType = UNSET
    agent_id: Uuid | UnsetType = UNSET
    type: Annotated[
        list[
            Annotated[
                str,
                Meta(
                    pattern=rf"^(session\.)?({'|'.join(EVENT_TYPES)})$",
                    description=f"one of {', '.join(EVENT_TYPES)}",
                    examples=["session.expiring"],
                ),
            ]
        ],
        Meta(description=f"some of {', '.join(EVENT_TYPES)}, given one by one or parted by commas"),
    ] = []
    last_event_id: LastEventId | UnsetType = UNSET
