"""Sessions: create, list, end, and their timeout settings."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from session_service.api.base import Metadata, Request, ResponseBody, Timestamp, Uuid, raw_json
from session_service.domain.budgets import LIST_LIMIT
from session_service.domain.sessions import Session, SessionPage
from session_service.domain.timeouts import TimeoutInfo
from session_service.domain.times import iso

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
    """The timeout settings of a session; omitted ones take the default, or stay unchanged."""

    timeout_minutes: TimeoutMinutes | None = None
    auto_renew: AutoRenew | None = None
    max_duration_minutes: MaxDurationMinutes | None = None
    warning_threshold_minutes: WarningThresholdMinutes | None = None


class CreateSession(Request):
    """A request to create a session."""

    agent_id: Uuid
    user_id: Uuid
    metadata: Metadata | None = None
    timeout_config: (
        Annotated[TimeoutSettings, Meta(description="an object of timeout settings")] | None
    ) = None
    get_or_create: (
        Annotated[
            bool,
            Meta(
                description="a boolean; if true, the user's newest live session with the agent is"
                " returned after a heartbeat, if there is one"
            ),
        ]
        | None
    ) = None


class UpdateSession(Request):
    """A change of a session."""

    metadata: Metadata


class ListSessions(Request):
    """The query of a list of sessions."""

    limit: Annotated[
        int, Meta(ge=1, le=LIST_LIMIT, description=f"a whole number from 1 to {LIST_LIMIT}")
    ] = 100
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
    order: (
        Annotated[
            Literal["activity"],
            Meta(description="activity, together with userId: by last activity, the latest first"),
        ]
        | UnsetType
    ) = UNSET


class EndSessions(Request, forbid_unknown_fields=True):
    """The query that selects the sessions to end; a misspelt name must not select all of them."""

    user_id: Uuid | UnsetType = UNSET
    agent_id: Uuid | UnsetType = UNSET
    all_: Annotated[Literal["true"], Meta(description="true")] | UnsetType = msgspec.field(
        default=UNSET, name="all"
    )


class SessionCreated(ResponseBody):
    """A new session."""

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
        """Return the response for a new session."""
        return cls(
            session_id=session.id,
            channel_id=session.id,
            agent_id=session.agent_id,
            user_id=session.user_id,
            created_at=iso(session.created_at),
            expires_at=iso(session.expires_at),
            timeout_config=TimeoutInfo.of(session.timeout),
            metadata=raw_json(session.metadata),
        )


class SessionInfo(ResponseBody):
    """The current state of a session."""

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
        """Return the response for a session."""
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
            metadata=raw_json(session.metadata),
        )


class SessionEnded(ResponseBody):
    """The session has ended."""

    message: Annotated[str, Meta(examples=["Session ended successfully"])]


class SessionsEnded(ResponseBody):
    """The result of ending many sessions."""

    ended: Annotated[int, Meta(description="the number of sessions that this call ended")]
    more: Annotated[bool, Meta(description="whether more sessions match: repeat the call")]


class SessionStats(ResponseBody):
    """The number of all sessions, regardless of the filter."""

    total_sessions: Annotated[int, Meta(description="active and expired sessions")]
    active_sessions: int
    expired_sessions: Annotated[int, Meta(description="sessions that answer 410")]


class SessionList(ResponseBody):
    """A page of live sessions."""

    sessions: list[SessionInfo]
    total: Annotated[int, Meta(description="live sessions that match the filter, on all pages")]
    stats: SessionStats
    next_cursor: Annotated[str | None, Meta(description="null on the last page")]
    truncated: (
        Annotated[
            bool,
            Meta(description="true if the user has more sessions than order=activity sorts: 1,000"),
        ]
        | UnsetType
    ) = UNSET

    @classmethod
    def of(cls, page: SessionPage) -> "SessionList":
        """Return the response for a page."""
        return cls(
            sessions=[SessionInfo.of(session) for session in page.sessions],
            total=page.total,
            stats=SessionStats(
                total_sessions=page.counts.active + page.counts.expired,
                active_sessions=page.counts.active,
                expired_sessions=page.counts.expired,
            ),
            next_cursor=page.next_cursor,
            truncated=page.is_truncated or UNSET,
        )
