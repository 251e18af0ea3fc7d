"""Events: the queries of the two event streams, and the CloudEvents 1.0 form of an event."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from session_service.api.base import Request, ResponseBody, Timestamp, Uuid
from session_service.domain.event_types import EVENT_DETAILS, EVENT_TYPES, EpochMs, EventDetails
from session_service.domain.events import EVENT_ID_PATTERN

LastEventId = Annotated[
    str,
    Meta(
        description="the id of an event, such as 1764000000000-3f-0",
        extra_json_schema={"pattern": EVENT_ID_PATTERN},
        extra={"header": "Last-Event-ID"},
    ),
]


class StreamSessionEvents(Request):
    """The query of the event stream of one session."""

    last_event_id: LastEventId | UnsetType = UNSET


class StreamEvents(Request):
    """The query of the event stream of all sessions."""

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
        Meta(description=f"some of {', '.join(EVENT_TYPES)}, one by one or separated by commas"),
    ] = msgspec.field(default_factory=list)
    last_event_id: LastEventId | UnsetType = UNSET


def _data_of(details: type[EventDetails]) -> type[msgspec.Struct]:
    """Return the type of ``data`` for a type of event: the ids, and the details as JSON has them.

    It is named after the event in the API document, e.g. ``RenewedEventData``.
    """
    return msgspec.defstruct(
        f"{details.type.title()}EventData",
        [
            *(("session_id", str), ("user_id", str), ("agent_id", str)),
            *(
                (field.name, Timestamp if field.type == EpochMs else field.type, field.default)
                for field in msgspec.structs.fields(details)
            ),
        ],
        bases=(ResponseBody,),
        namespace={"__doc__": (details.__doc__ or "").partition("\n")[0]},
    )


EVENT_DATA = tuple(map(_data_of, EVENT_DETAILS.values()))


class CloudEvent(ResponseBody):
    """An event of a session in the form of CloudEvents 1.0: the ``data`` of a server-sent event."""

    specversion: Annotated[str, Meta(extra_json_schema={"const": "1.0"})]
    id: Annotated[
        str, Meta(description="orders events", extra_json_schema={"pattern": EVENT_ID_PATTERN})
    ]
    source: Annotated[str, Meta(description="the address of the session")]
    type: Annotated[str, Meta(extra_json_schema={"enum": [f"session.{t}" for t in EVENT_TYPES]})]
    subject: Annotated[str, Meta(description="the id of the session")]
    time: Timestamp
    datacontenttype: Annotated[str, Meta(extra_json_schema={"const": "application/json"})]
    data: Annotated[
        dict[str, Any],
        Meta(
            description="the session, its user and its agent, and what the type adds",
            extra_json_schema={
                "anyOf": [{"$ref": f"#/components/schemas/{data.__name__}"} for data in EVENT_DATA]
            },
        ),
    ]
    test: (
        Annotated[bool, Meta(description="true: a sample, by which a webhook is tested")]
        | UnsetType
    ) = UNSET
