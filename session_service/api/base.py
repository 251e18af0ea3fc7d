"""What all wire types share: base classes, common fields, the text of descriptions.

The description of a request's field completes the sentence "<field> must be ...", in error
messages and in the API document alike, e.g. "a UUID" in "agentId must be a UUID". A name in
braces, in a description or a bound, stands for a value of the TimeoutPolicy: see ``describe``.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from session_service.domain.budgets import METADATA_BYTES
from session_service.domain.ids import UUID_PATTERN
from session_service.domain.timeouts import TimeoutPolicy

MAX_MOMENT = 8_640_000_000_000_000  # the last millisecond that a JavaScript Date can hold

Uuid = Annotated[str, Meta(pattern=UUID_PATTERN, description="a UUID")]

Metadata = Annotated[
    dict[str, Any],
    Meta(description=f"an object of at most {METADATA_BYTES:,} bytes as compact UTF-8 JSON"),
]

Timestamp = Annotated[
    str,
    Meta(
        description="ISO 8601, UTC, with milliseconds",
        examples=["2026-01-15T10:30:45.123Z"],
        extra_json_schema={"format": "date-time"},
    ),
]

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


class ResponseBody(Struct, rename="camel"):
    """A response."""


def raw_json(json: bytes) -> Any:
    """Pass stored JSON on as it is."""
    return msgspec.Raw(json)
