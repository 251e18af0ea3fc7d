"""Sessions: their handlers and routes."""

import time

from msgspec import UNSET

from session_service.api.health import SessionsHealth
from session_service.api.sessions import (
    CreateSession,
    EndSessions,
    ListSessions,
    SessionCreated,
    SessionEnded,
    SessionInfo,
    SessionList,
    SessionsEnded,
    TimeoutSettings,
)
from session_service.domain.errors import (
    RecordUnreadable,
    RenewalFailed,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    TooManySessions,
    ValidationFailed,
)
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import TimeoutChange, TimeoutPolicy
from session_service.domain.times import iso
from session_service.web.http.decoding import compact_metadata, lower
from session_service.web.http.errors import error_response
from session_service.web.http.response import Answer, encode
from session_service.web.http.state import AppState
from session_service.web.rest.route import MESSAGING, Route

SESSIONS = f"{MESSAGING}/sessions"
SESSION = SESSIONS + "/{sessionId}"
SESSION_ERRORS = (SessionNotFound, SessionExpired, RecordUnreadable, StoreUnavailable)

_ENDED = encode(SessionEnded("Session ended successfully"))
_LATE_MS = 10_000  # a deadline not acted on for this long means that the sweep is behind


async def end_session(service: AppState, session_id: str) -> Answer:
    """End a session and delete its conversation."""
    await service.repository.end(session_id)
    return Answer(200, _ENDED)


async def end_sessions(service: AppState, given: EndSessions) -> Answer:
    """End the sessions of a user, of an agent, of both, or all."""
    user_id, agent_id = lower(given.user_id), lower(given.agent_id)
    of_some = user_id is not None or agent_id is not None
    if given.all_ is UNSET and not of_some:
        raise ValidationFailed(
            "userId, agentId or all", "is required: a UUID, or all=true for every session there is"
        )
    if given.all_ is not UNSET and of_some:
        raise ValidationFailed("all", "must be left out where userId or agentId is given")
    ended, more = await service.repository.end_all(user_id=user_id, agent_id=agent_id)
    return Answer(200, encode(SessionsEnded(ended, more)))


async def create_session(service: AppState, given: CreateSession) -> Answer:
    """Create a session for a user and an agent."""
    path = "timeoutConfig."
    change = _change(given.timeout_config or TimeoutSettings(), service.policy, path)
    session = await service.repository.create(
        NewSession(
            agent_id=given.agent_id.lower(),
            user_id=given.user_id.lower(),
            timeout=service.policy.resolve(change, path),
            metadata=compact_metadata(given.metadata),
        )
    )
    location = ("Location", f"sessions/{session.id}")  # relative: a proxy may add a prefix
    return Answer(201, encode(SessionCreated.of(session)), (location,))


async def list_sessions(service: AppState, given: ListSessions) -> Answer:
    """List live sessions, page by page."""
    page = await service.repository.list_page(
        limit=given.limit,
        user_id=lower(given.user_id),
        agent_id=lower(given.agent_id),
        position=None if given.cursor is UNSET else given.cursor,
    )
    return Answer(200, encode(SessionList.of(page)))


async def get_sessions_health(service: AppState) -> Answer:
    """Report the health of the service and its store."""
    timestamp = iso(time.time_ns() // 1_000_000)
    try:
        counts = await service.repository.count()
    except StoreUnavailable as error:
        return error_response(error, status="unhealthy", timestamp=timestamp, uptime=service.uptime)
    reasons = [reason for source in service.health_reasons for reason in source()]
    if counts.sweep_lag_ms >= _LATE_MS:
        reasons.append(f"deadlines are acted on {counts.sweep_lag_ms / 1000:,.0f} s late")
    return Answer(
        200,
        encode(
            SessionsHealth(
                status="degraded" if reasons else "healthy",
                reasons=reasons or UNSET,
                active_sessions=counts.active,
                expiring_soon=counts.near_expiration,
                timestamp=timestamp,
                uptime=service.uptime,
                invalid_sessions=counts.unreadable or UNSET,
            )
        ),
    )


async def get_session(service: AppState, session_id: str) -> Answer:
    """Read a session."""
    return _info(await service.repository.get(session_id))


async def renew_session(service: AppState, session_id: str) -> Answer:
    """Renew a session, whether or not it renews by itself."""
    return _info(await service.repository.renew(session_id))


async def session_heartbeat(service: AppState, session_id: str) -> Answer:
    """Keep a session alive."""
    return _info(await service.repository.heartbeat(session_id))


async def update_session_timeout(
    service: AppState, session_id: str, given: TimeoutSettings
) -> Answer:
    """Change the given timeout settings of a session."""
    change = _change(given, service.policy)
    return _info(await service.repository.change_timeout(session_id, change))


def _info(session: Session) -> Answer:
    return Answer(200, encode(SessionInfo.of(session)))


def _change(given: TimeoutSettings, policy: TimeoutPolicy, path: str = "") -> TimeoutChange:
    return policy.change(
        timeout=given.timeout_minutes,
        auto_renew=given.auto_renew,
        max_duration=given.max_duration_minutes,
        warning=given.warning_threshold_minutes,
        path=path,
    )


ROUTES = (
    Route(
        "DELETE",
        SESSION,
        end_session,
        "End Session",
        "Explicitly end and delete a conversation session",
        200,
        SessionEnded,
        "Session ended successfully",
        (SessionNotFound, RecordUnreadable, StoreUnavailable),
        is_atomic=True,
    ),
    Route(
        "DELETE",
        SESSIONS,
        end_sessions,
        "End Sessions",
        "End the sessions of a user, of an agent, of both, or all=true of them, and delete their"
        " conversations. Works for two seconds at most: repeat it while more is true. Sessions"
        " created before the call do not survive it then, those created since are left alone",
        200,
        SessionsEnded,
        "Sessions ended",
        (ValidationFailed, StoreUnavailable),
        query=EndSessions,
    ),
    Route(
        "POST",
        SESSIONS,
        create_session,
        "Create Session",
        "Create a conversation session for a user and an agent",
        201,
        SessionCreated,
        "Session created; Location is its address",
        (TooManySessions, StoreUnavailable),
        body=CreateSession,
        is_atomic=True,
        is_limited=True,
    ),
    Route(
        "GET",
        SESSIONS,
        list_sessions,
        "List Sessions",
        "List live sessions, page by page. The order is stable and otherwise unspecified: a session"
        " that lives throughout a paging is met exactly once",
        200,
        SessionList,
        "A page of sessions",
        (ValidationFailed, StoreUnavailable),
        query=ListSessions,
    ),
    Route(
        "GET",
        f"{SESSIONS}/health",
        get_sessions_health,
        "Sessions Health",
        "Tell how the service and its store are; 503 is unhealthy",
        200,
        SessionsHealth,
        "The service works",
        (StoreUnavailable,),
    ),
    Route(
        "GET",
        SESSION,
        get_session,
        "Get Session",
        "Read a session",
        200,
        SessionInfo,
        "The session",
        SESSION_ERRORS,
    ),
    Route(
        "POST",
        f"{SESSION}/renew",
        renew_session,
        "Renew Session",
        "Renew a session, whether or not it renews by itself. Counts as activity",
        200,
        SessionInfo,
        "The session, renewed",
        (*SESSION_ERRORS, RenewalFailed),
        is_atomic=True,
    ),
    Route(
        "POST",
        f"{SESSION}/heartbeat",
        session_heartbeat,
        "Session Heartbeat",
        "Keep a session alive: counts as activity, and renews it if autoRenew is set",
        200,
        SessionInfo,
        "The session",
        SESSION_ERRORS,
        is_atomic=True,
    ),
    Route(
        "PATCH",
        f"{SESSION}/timeout",
        update_session_timeout,
        "Update Session Timeout",
        "Change the given timeout settings and leave the others as they are; the deadline is worked"
        " out anew from the last renewal",
        200,
        SessionInfo,
        "The session, changed",
        SESSION_ERRORS,
        body=TimeoutSettings,
    ),
)
