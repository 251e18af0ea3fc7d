"""Responses, as they travel: the types the handlers answer with and the API document shows."""

from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from session_service.domain.events import EVENT_ID_PATTERN, EVENT_TYPES
from session_service.domain.messages import History, Message
from session_service.domain.sessions import Session, SessionPage
from session_service.domain.timeouts import TimeoutConfig, to_minutes
from session_service.domain.times import iso

Timestamp = Annotated[
    str,
    Meta(
        description="ISO 8601, UTC, with milliseconds",
        examples=["2026-01-15T10:30:45.123Z"],
        extra_json_schema={"format": "date-time"},
    ),
]


class Response(Struct, rename="camel"):
    """A response."""


class TimeoutInfo(Response):
    """How a session times out, all values filled in."""

    timeout_minutes: float
    auto_renew: bool
    max_duration_minutes: float
    warning_threshold_minutes: float

    @classmethod
    @lru_cache(maxsize=1024)  # sessions differ in much, rarely in this
    def of(cls, config: TimeoutConfig) -> "TimeoutInfo":
        """Show a configuration in minutes."""
        return cls(
            timeout_minutes=to_minutes(config.timeout_ms),
            auto_renew=config.auto_renew,
            max_duration_minutes=to_minutes(config.max_duration_ms),
            warning_threshold_minutes=to_minutes(config.warning_ms),
        )


class SessionCreated(Response):
    """A session, new."""

    session_id: str
    channel_id: str
    agent_id: str
    user_id: str
    created_at: Timestamp
    expires_at: Timestamp
    timeout_config: TimeoutInfo
    metadata: dict[str, Any]

    @classmethod
    def of(cls, session: Session) -> "SessionCreated":
        """Show a new session."""
        return cls(
            session_id=session.id,
            channel_id=session.id,
            agent_id=session.agent_id,
            user_id=session.user_id,
            created_at=iso(session.created_at),
            expires_at=iso(session.expires_at),
            timeout_config=TimeoutInfo.of(session.timeout),
            metadata=_raw(session.metadata),
        )


class SessionInfo(Response):
    """A session as it is now."""

    session_id: str
    channel_id: str
    agent_id: str
    user_id: str
    created_at: Timestamp
    last_activity: Timestamp
    expires_at: Timestamp
    timeout_config: TimeoutInfo
    renewal_count: int
    time_remaining: Annotated[int, Meta(description="milliseconds")]
    is_near_expiration: bool
    metadata: dict[str, Any]

    @classmethod
    def of(cls, session: Session) -> "SessionInfo":
        """Show a session."""
        return cls(
            session_id=session.id,
            channel_id=session.id,
            agent_id=session.agent_id,
            user_id=session.user_id,
            created_at=iso(session.created_at),
            last_activity=iso(session.last_activity),
            expires_at=iso(session.expires_at),
            timeout_config=TimeoutInfo.of(session.timeout),
            renewal_count=session.renewal_count,
            time_remaining=session.time_remaining,
            is_near_expiration=session.is_near_expiration,
            metadata=_raw(session.metadata),
        )


class SessionEnded(Response):
    """The session has ended."""

    message: Annotated[str, Meta(examples=["Session ended successfully"])]


class ConversationErased(Response):
    """The conversation has been erased."""

    message: Annotated[str, Meta(examples=["Conversation erased successfully"])]


class SessionsEnded(Response):
    """Sessions have ended."""

    ended: Annotated[int, Meta(description="how many sessions this call ended")]
    more: Annotated[bool, Meta(description="whether there may be more, for the same call again")]


class SessionStats(Response):
    """How many sessions there are in all, whatever the filter."""

    total_sessions: Annotated[int, Meta(description="active and expired ones")]
    active_sessions: int
    expired_sessions: Annotated[int, Meta(description="those that answer 410")]


class SessionList(Response):
    """A page of live sessions."""

    sessions: list[SessionInfo]
    total: Annotated[int, Meta(description="live sessions that match the filter, on all pages")]
    stats: SessionStats
    next_cursor: Annotated[str | None, Meta(description="null on the last page")]

    @classmethod
    def of(cls, page: SessionPage) -> "SessionList":
        """Show a page."""
        return cls(
            sessions=[SessionInfo.of(session) for session in page.sessions],
            total=page.total,
            stats=SessionStats(
                total_sessions=page.counts.active + page.counts.expired,
                active_sessions=page.counts.active,
                expired_sessions=page.counts.expired,
            ),
            next_cursor=page.next_position,
        )


class MessageInfo(Response):
    """A message of a conversation."""

    id: str
    content: str
    author_id: str
    is_agent: bool
    created_at: Timestamp
    metadata: dict[str, Any]
    attachments: list[dict[str, Any]] | UnsetType = UNSET

    @classmethod
    def of(cls, message: Message) -> "MessageInfo":
        """Show a message."""
        return cls(
            id=message.id,
            content=message.content,
            author_id=message.author_id,
            is_agent=message.is_agent,
            created_at=iso(message.created_at),
            metadata=_raw(message.metadata),
            attachments=UNSET if message.attachments is None else _raw(message.attachments),
        )


class SessionStatus(Response):
    """What a message did to its session."""

    expires_at: Timestamp
    renewal_count: int
    was_renewed: bool
    is_near_expiration: bool


class MessageSent(Response):
    """A stored message, flat and again as ``userMessage``: published clients read either."""

    id: str
    content: str
    author_id: str
    created_at: Timestamp
    metadata: dict[str, Any]
    session_status: SessionStatus
    user_message: MessageInfo
    attachments: list[dict[str, Any]] | UnsetType = UNSET

    @classmethod
    def of(cls, message: Message, session: Session, was_renewed: bool) -> "MessageSent":
        """Show a message and the session after it."""
        shown = MessageInfo.of(message)
        return cls(
            id=shown.id,
            content=shown.content,
            author_id=shown.author_id,
            created_at=shown.created_at,
            metadata=shown.metadata,
            attachments=shown.attachments,
            session_status=SessionStatus(
                expires_at=iso(session.expires_at),
                renewal_count=session.renewal_count,
                was_renewed=was_renewed,
                is_near_expiration=session.is_near_expiration,
            ),
            user_message=shown,
        )


class Cursors(Response):
    """Where to go on, epoch milliseconds."""

    before: Annotated[int, Meta(description="the oldest message of the page: for older ones")]
    after: Annotated[int, Meta(description="the newest message of the page: for newer ones")]


class MessagePage(Response):
    """A page of a conversation, newest first."""

    messages: list[MessageInfo]
    has_more: Annotated[bool, Meta(description="whether more lie beyond, in the direction asked")]
    cursors: Annotated[Cursors, Meta(description="absent where messages is empty")] | UnsetType = (
        UNSET
    )

    @classmethod
    def of(cls, history: History) -> "MessagePage":
        """Show a page."""
        messages = history.messages
        return cls(
            messages=[MessageInfo.of(message) for message in messages],
            has_more=history.has_more,
            cursors=(
                Cursors(before=messages[-1].created_at, after=messages[0].created_at)
                if messages
                else UNSET
            ),
        )


class CloudEvent(Response):
    """An event of a session, as CloudEvents 1.0 has it: the ``data`` of a server-sent event."""

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
            description="sessionId, userId, agentId; and of created expiresAt; of message"
            " messageId, authorId, isAgent, createdAt, and content where that is asked for by the"
            " setting SESSION_EVENTS_CONTENT; of renewed expiresAt, renewalCount; of updated"
            " expiresAt, timeoutConfig; of expiring expiresAt, minutesRemaining; of expired"
            " expiredAt; of ended reason, where there is one"
        ),
    ]


class SessionsHealth(Response):
    """How the service and its store are."""

    status: Annotated[
        str,
        Meta(
            description="degraded: it works, but not as it should; see reasons",
            extra_json_schema={"enum": ["healthy", "degraded"]},
        ),
    ]
    active_sessions: int
    expiring_soon: Annotated[int, Meta(description="sessions past their warning threshold")]
    timestamp: Timestamp
    uptime: Annotated[float, Meta(description="of this process, in seconds")]
    invalid_sessions: (
        Annotated[int, Meta(description="sessions whose record was met and cannot be read, if any")]
        | UnsetType
    ) = UNSET
    reasons: Annotated[
        list[str] | UnsetType,
        Meta(description="why it is degraded, a sentence each; absent otherwise"),
    ] = UNSET


class ErrorInfo(Response):
    """What went wrong."""

    code: Annotated[str, Meta(description="Error code")]
    message: Annotated[str, Meta(description="Error message")]
    details: Annotated[str, Meta(description="Detailed error information")]


class Error(Response, kw_only=True):
    """The one shape of every error."""

    success: Annotated[bool, Meta(examples=[False])]
    error: ErrorInfo


class Unhealthy(Error, kw_only=True):
    """The store cannot be reached, so nothing can be counted."""

    status: Annotated[str, Meta(extra_json_schema={"const": "unhealthy"})]
    timestamp: Timestamp
    uptime: float


class ProbeStatus(Response):
    """An answer to a probe."""

    status: str


def _raw(json: bytes) -> Any:
    """Pass stored JSON on as it is."""
    return msgspec.Raw(json)
