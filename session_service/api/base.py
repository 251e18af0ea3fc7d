"""Base classes and common fields of the wire types, and how their descriptions are used.

The description of a request's field completes the sentence "<field> must be ...", in error
messages and in the API document alike, e.g. "a UUID" in "agentId must be a UUID". A name in
braces, in a description or a bound, stands for a value of the TimeoutPolicy: see ``describe``. The
docstring of a type is its description in the API document, so it has no braces either.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from session_service.domain.budgets import METADATA_BYTES
from session_service.domain.ids import UUID_PATTERN
from session_service.domain.timeouts import TimeoutPolicy

MAX_TIMESTAMP_MS = 8_640_000_000_000_000  # the last millisecond of a JavaScript Date

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

TimestampParam = Annotated[
    str,
    Meta(
        description="epoch milliseconds, or an ISO 8601 time such as 2026-01-15T10:30:45.123Z",
        extra_json_schema={
            "oneOf": [
                {"type": "integer", "minimum": 0, "maximum": MAX_TIMESTAMP_MS},
                {"type": "string", "format": "date-time"},
            ],
        },
    ),
]


def describe(description: str, policy: TimeoutPolicy) -> str:
    """Return a description with its braces filled, e.g. "a number of minutes from 5 to 1440"."""
    return description.format(
        min_timeout=policy.min_timeout,
        max_timeout=policy.max_timeout,
        max_max_duration=policy.max_max_duration,
    )


class Request(Struct, rename="camel"):
    """Base class of bodies and queries. Unknown fields are ignored.

    In a body, null counts as absent for an optional field (``X | None``). A query has no null: it
    would be decoded from the text "null", and ``userId=null`` must not select every user. Its
    optional fields are ``X | UnsetType``. The ``repr`` has no values: there may be secrets.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


class ResponseBody(Struct, rename="camel"):
    """Base class of response bodies. The ``repr`` has no values: there may be secrets."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


def raw_json(json: bytes) -> Any:
    """Return stored JSON as a value that is encoded without being parsed."""
    return msgspec.Raw(json)
