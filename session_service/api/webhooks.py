"""Webhooks: register and list them, rotate secrets, and handle dead letters."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from session_service.api.base import Request, ResponseBody, Timestamp, Uuid
from session_service.domain.event_types import EVENT_TYPES
from session_service.domain.signing import SECRET_FORMAT
from session_service.domain.times import iso
from session_service.domain.webhooks import (
    DEFAULT_OVERLAP_HOURS,
    MAX_OVERLAP_HOURS,
    MAX_URL_LENGTH,
    MIN_OVERLAP_HOURS,
    TYPES_FORMAT,
    DeadLetter,
    QueueSizes,
    Webhook,
)

FAILURES = "HTTP_ and a status, or TIMEOUT, CONNECTION, TLS, ADDRESS_NOT_ALLOWED"
_ALL_TYPES = [*EVENT_TYPES, *(f"session.{name}" for name in EVENT_TYPES)]

# Requests

Types = Annotated[
    list[Annotated[str, Meta(extra_json_schema={"enum": _ALL_TYPES})]],
    Meta(min_length=1, max_length=len(_ALL_TYPES), description=TYPES_FORMAT),
]


Secret = Annotated[
    str,
    Meta(pattern=r"\Awhsec_[A-Za-z0-9+/]{32,88}={0,2}\Z", description=SECRET_FORMAT),
]


class CreateWebhook(Request):
    """A request to register a webhook, for the events that match all of its filters."""

    url: Annotated[
        str,
        Meta(
            min_length=8,
            max_length=MAX_URL_LENGTH,
            pattern="^https?://",
            description="an http:// or https:// URL with a host, in ASCII,"
            f" of at most {MAX_URL_LENGTH} characters",
            examples=["https://hooks.example/sessions"],
        ),
    ]
    secret: Secret | None = None
    types: Types | None = None
    user_id: Uuid | None = None
    agent_id: Uuid | None = None


class RotateSecret(Request):
    """A request for a new secret of a webhook; without one, the service generates it."""

    secret: Secret | None = None
    overlap_hours: (
        Annotated[
            float,
            Meta(
                ge=MIN_OVERLAP_HOURS,
                le=MAX_OVERLAP_HOURS,
                description=f"a number from {MIN_OVERLAP_HOURS} to {MAX_OVERLAP_HOURS}"
                f" (default {DEFAULT_OVERLAP_HOURS}):"
                " the time during which deliveries are signed with both secrets",
            ),
        ]
        | None
    ) = None


class TestWebhook(Request):
    """The type of the sample to send."""

    type: Annotated[
        str,
        Meta(
            pattern=rf"\A(session\.)?({'|'.join(EVENT_TYPES)})\Z",
            description=f"one of {', '.join(EVENT_TYPES)}, also with session. before",
            examples=["session.created"],
        ),
    ]


class ListDeadLetters(Request):
    """The query of a page of dead letters."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="a whole number from 1 to 1000")] = 100
    offset: Annotated[
        int, Meta(ge=0, le=1_000_000, description="a whole number from 0 to 1000000")
    ] = 0


class ReplayDeadLetters(Request):
    """The dead letters to deliver again; by default, all of them."""

    ids: (
        Annotated[
            list[Annotated[str, Meta(max_length=64, description="the id of an event")]],
            Meta(max_length=1000, description="an array of at most 1000 ids of events"),
        ]
        | None
    ) = None


# Responses


class WebhookInfo(ResponseBody):
    """A webhook, and the numbers of its deliveries."""

    webhook_id: str
    url: str
    types: Annotated[list[str] | None, Meta(description="null: all types")]
    user_id: Annotated[str | None, Meta(description="null: any user")]
    agent_id: Annotated[str | None, Meta(description="null: any agent")]
    created_at: Annotated[Timestamp, Meta(description="events since then are delivered")]
    status: Annotated[
        str,
        Meta(
            description="gone: the endpoint answered 410; a replay enables it again."
            " unreadable: its queue in the store is damaged, and the counts are 0",
            extra_json_schema={"enum": ["active", "gone", "unreadable"]},
        ),
    ]
    from_settings: bool
    queued: Annotated[int, Meta(description="deliveries that are pending")]
    dead: Annotated[int, Meta(description="dead letters: deliveries that failed for good")]
    dropped: Annotated[int, Meta(description="deliveries lost because a list was full")]
    agents: (
        Annotated[
            list[str],
            Meta(
                description="only their events are delivered; absent unless the API key that"
                " registered it is bound to agents"
            ),
        ]
        | UnsetType
    ) = UNSET

    @classmethod
    def of(cls, webhook: Webhook, sizes: QueueSizes | None) -> "WebhookInfo":
        """Return the response for a webhook, without its secret."""
        return cls(**_fields_of(webhook, sizes))


class WebhookCreated(WebhookInfo, kw_only=True):
    """A new webhook, with its secret."""

    secret: Annotated[str, Meta(description="verifies signatures; not shown again")]

    @classmethod
    def of(cls, webhook: Webhook, sizes: QueueSizes | None) -> "WebhookCreated":
        """Return the response for a new webhook."""
        return cls(**_fields_of(webhook, sizes), secret=webhook.target.secret)


class SecretRotated(ResponseBody):
    """The webhook has a new secret."""

    webhook_id: str
    secret: Annotated[str, Meta(description="verifies signatures; not shown again")]
    previous_secret_until: Annotated[
        Timestamp, Meta(description="until then deliveries are signed with both secrets")
    ]

    @classmethod
    def of(cls, webhook: Webhook) -> "SecretRotated":
        """Return the response for a webhook whose secret was rotated."""
        return cls(webhook.id, webhook.target.secret, iso(webhook.overlap_until or 0))


class WebhookList(ResponseBody):
    """All webhooks."""

    webhooks: list[WebhookInfo]


class WebhookRemoved(ResponseBody):
    """The webhook was removed."""

    message: Annotated[str, Meta(examples=["Webhook removed"])]


class WebhookTested(ResponseBody):
    """The outcome of a test: an endpoint that fails is an outcome, too."""

    delivered: Annotated[bool, Meta(description="whether the endpoint answered 2xx in time")]
    status: Annotated[int | None, Meta(description="of its response; null: there was none")]
    duration_ms: Annotated[int, Meta(description="whole milliseconds, from connecting on")]
    failure: Annotated[
        str | None,
        Meta(description=f"{FAILURES}; null if it was delivered", examples=["HTTP_503"]),
    ]
    event: Annotated[dict[str, Any], Meta(description="the sample that was sent")]


class DeadLetterInfo(ResponseBody):
    """A delivery that failed for good."""

    id: Annotated[str, Meta(description="the id of the event")]
    attempts: int
    last_failure: Annotated[
        str,
        Meta(
            description=f"{FAILURES}, UNREADABLE, INTERNAL",
            examples=["HTTP_503"],
        ),
    ]
    dead_since: Timestamp
    event: Annotated[
        dict[str, Any] | None,
        Meta(description="the event as it would be delivered; null if it cannot be read"),
    ]

    @classmethod
    def of(cls, letter: DeadLetter) -> "DeadLetterInfo":
        """Return the response for a dead letter."""
        return cls(
            id=letter.event_id,
            attempts=letter.failures,
            last_failure=letter.last_failure,
            dead_since=iso(letter.dead_since),
            event=letter.event.cloud_event() if letter.event else None,
        )


class DeadLetterList(ResponseBody):
    """A page of dead letters, oldest first."""

    dead_letters: list[DeadLetterInfo]
    total: int


class Replayed(ResponseBody):
    """The number of dead letters that are delivered again."""

    replayed: int


def _fields_of(webhook: Webhook, sizes: QueueSizes | None) -> dict[str, Any]:
    event_filter = webhook.target.filter
    status = "unreadable" if sizes is None else "active" if webhook.is_enabled else "gone"
    sizes = sizes or QueueSizes(0, 0, 0)
    return {
        "webhook_id": webhook.id,
        "url": webhook.target.url,
        "types": None
        if event_filter.types is None
        else [f"session.{name}" for name in EVENT_TYPES if name in event_filter.types],
        "user_id": event_filter.user_id,
        "agent_id": event_filter.agent_id,
        "created_at": iso(webhook.created_at),
        "status": status,
        "from_settings": webhook.is_from_settings,
        "queued": sizes.queued,
        "dead": sizes.dead,
        "dropped": sizes.dropped,
        "agents": UNSET if event_filter.agents is UNSET else sorted(event_filter.agents),
    }
