"""Requests, as they travel: the types the handlers are given and the API document shows.

The description of a field completes the sentence "<field> must be ...", in messages as in the
document. What stands in ``{braces}``, there and for a bound, is a value of the TimeoutPolicy.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from session_service.domain.budgets import (
    ATTACHMENT_BYTES,
    ATTACHMENTS,
    ATTACHMENTS_BYTES,
    CONTENT_CHARACTERS,
    METADATA_BYTES,
)
from session_service.domain.events import EVENT_ID_PATTERN, EVENT_TYPES
from session_service.domain.ids import UUID_PATTERN
from session_service.domain.timeouts import TimeoutPolicy

MAX_MOMENT = 8_640_000_000_000_000  # the last millisecond that a JavaScript Date can hold

Uuid = Annotated[str, Meta(pattern=UUID_PATTERN, description="a UUID")]
Metadata = Annotated[
    dict[str, Any],
    Meta(description=f"an object of at most {METADATA_BYTES:,} bytes as compact UTF-8 JSON"),
]


def describe(description: str, policy: TimeoutPolicy) -> str:
    """Fill a description's braces."""
    return description.format(
        min_timeout=policy.min_timeout,
        max_timeout=policy.max_timeout,
        max_max_duration=policy.max_max_duration,
    )


class Request(Struct, rename="camel"):
    """A request. Fields it does not know are ignored.

    In a body, an optional field that is null counts as absent. In a query there is no null: it
    would be read from the text "null", and ``userId=null`` must not select every user.
    """


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

    timeout_minutes: TimeoutMinutes | None = None
    auto_renew: AutoRenew | None = None
    max_duration_minutes: MaxDurationMinutes | None = None
    warning_threshold_minutes: WarningThresholdMinutes | None = None


class CreateSession(Request):
    """A session to be created."""

    agent_id: Uuid
    user_id: Uuid
    metadata: Metadata | None = None
    timeout_config: (
        Annotated[TimeoutSettings, Meta(description="an object of timeout settings")] | None
    ) = None


def _with_text(name: str) -> dict[str, Any]:
    """Return the JSON Schema of an object that has a member, which is not null."""
    return {"required": [name], "properties": {name: {"type": "string"}}}


class Attachment(Request):
    """Something a message refers to, with its type or contentType; other members are kept."""

    url: Annotated[str, Meta(min_length=1, description="a string that is not empty")]
    type: (
        Annotated[
            str,
            Meta(min_length=1, description="a string such as image, file, audio, video, document"),
        ]
        | None
    ) = None
    content_type: (
        Annotated[str, Meta(min_length=1, description="a media type such as image/png")] | None
    ) = None
    name: Annotated[str, Meta(description="a string")] | None = None


class SendMessage(Request):
    """A message to be sent."""

    content: Annotated[
        str,
        Meta(
            min_length=1,
            description=f"a string of 1 to {CONTENT_CHARACTERS} characters, or if authorId is the"
            " agent's, of at most SESSION_REPLY_MAX_BYTES bytes of UTF-8",
        ),
    ]
    author_id: (
        Annotated[
            str,
            Meta(pattern=UUID_PATTERN, description="the session's userId (the default) or agentId"),
        ]
        | None
    ) = None
    metadata: Metadata | None = None
    attachments: (
        Annotated[
            list[
                Annotated[
                    dict[str, Any],
                    Meta(
                        description="an object with url, and type or contentType, of at most"
                        f" {ATTACHMENT_BYTES:,} bytes as compact UTF-8 JSON",
                        extra_json_schema={
                            "$ref": "#/components/schemas/Attachment",
                            "anyOf": [_with_text("type"), _with_text("contentType")],
                        },
                    ),
                ]
            ],
            Meta(
                max_length=ATTACHMENTS,
                description=f"an array of at most {ATTACHMENTS} attachments,"
                f" of at most {ATTACHMENTS_BYTES:,} bytes together",
            ),
        ]
        | None
    ) = None
    # Who answers, and how; see docs/api.md. Nothing depends on them yet.
    transport: (
        Annotated[Literal["http", "sse", "websocket"], Meta(description="http, sse or websocket")]
        | None
    ) = None
    mode: (
        Annotated[
            Literal["sync", "stream", "websocket"],
            Meta(description="sync, stream or websocket; the older name of transport"),
        ]
        | None
    ) = None


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
                    pattern=rf"\A(session\.)?({'|'.join(EVENT_TYPES)})\Z",
                    description=f"one of {', '.join(EVENT_TYPES)}",
                    examples=["session.expiring"],
                ),
            ]
        ],
        Meta(description=f"some of {', '.join(EVENT_TYPES)}, given one by one or parted by commas"),
    ] = []
    last_event_id: LastEventId | UnsetType = UNSET
