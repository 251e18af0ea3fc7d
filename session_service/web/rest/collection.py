"""Handlers and routes of all sessions together, under ``/api/messaging/sessions``."""

import time

from msgspec import UNSET

from session_service.api.health import SessionsHealth, Unhealthy
from session_service.api.sessions import (
    CreateSession,
    EndSessions,
    ListSessions,
    SessionCreated,
    SessionList,
    SessionsEnded,
    TimeoutSettings,
)
from session_service.audit import AuditEvent
from session_service.domain.credentials import Permission
from session_service.domain.errors import (
    AgentNotFound,
    RateLimited,
    StoreUnavailable,
    TooManyKeys,
    TooManySessions,
    ValidationFailed,
)
from session_service.domain.sessions import NewSession, Session
from session_service.domain.times import iso
from session_service.web.http.context import RequestContext
from session_service.web.http.errors import error_response
from session_service.web.http.fields import compact_metadata, lower, timeout_change
from session_service.web.http.response import JsonResponse, encode
from session_service.web.rest.route import Route, Tag
from session_service.web.rest.sessions import SESSIONS

# Health is degraded if a deadline has been due for this long. That of an unreadable session stays
# due for ten seconds (lua/sweep.lua), and then until the next sweep.
_SWEEP_LATE_MS = 11_000


async def end_sessions(context: RequestContext, query: EndSessions) -> JsonResponse:
    """End the sessions of a user, of an agent, of both, or all with ``all=true``.

    Their conversations are deleted. One request works for two seconds at most: repeat it while
    ``more`` is true. Then all matching sessions created before the first request have ended, and
    those created later are left alone.
    """
    user_id, agent_id = lower(query.user_id), lower(query.agent_id)
    is_filtered = user_id is not None or agent_id is not None
    if query.all_ is UNSET and not is_filtered:
        raise ValidationFailed(
            "userId, agentId or all", "is required: a UUID, or all=true for every session there is"
        )
    if query.all_ is not UNSET and is_filtered:
        raise ValidationFailed("all", "must be left out if userId or agentId is set")
    if query.all_ is not UNSET:
        context.credential.require(Permission.SESSIONS_ADMIN)
    by = context.credential.ends_as
    filtered = {"user": user_id, "agent": agent_id}
    with context.audited(AuditEvent.SESSIONS_ENDED, **filtered, by=by) as entry:
        ended, more = await context.sessions.end_all(user_id=user_id, agent_id=agent_id)
        entry.add(ended=ended, more=more)
    context.count("ended", ended)
    return JsonResponse(200, encode(SessionsEnded(ended, more)))


async def create_session(context: RequestContext, body: CreateSession) -> JsonResponse:
    """Create a session for a user and an agent.

    With ``getOrCreate`` the user's newest live session with the agent is returned instead, after a
    heartbeat, with status 200. The other fields are ignored then.
    """
    agent_id, user_id = body.agent_id.lower(), body.user_id.lower()
    context.credential.admit(user_id=user_id, agent_id=agent_id)
    path = "timeoutConfig."
    change = timeout_change(body.timeout_config or TimeoutSettings(), context.state.policy, path)
    new = NewSession(
        agent_id=agent_id,
        user_id=user_id,
        timeout=context.state.policy.resolve(change, path),
        metadata=compact_metadata(body.metadata),
    )
    if context.state.agents and agent_id not in context.state.agents:
        raise AgentNotFound
    replaced: list[str] = []
    try:
        if body.get_or_create:
            session, is_new = await _get_or_create(context, new, replaced)
        else:
            if context.page:
                context.state.creations.count(context.page)
            session, is_new = await context.sessions.create(new, replaced), True
    finally:
        context.count("ended", len(replaced))
        for each in replaced:
            context.audit(
                AuditEvent.SESSION_ENDED,
                session=each,
                user=new.user_id,
                by="limit",
                reason="replaced",
            )
    if is_new:
        context.count("created")
    location = ("Location", f"sessions/{session.id}")  # relative: a proxy may add a prefix
    return JsonResponse(201 if is_new else 200, encode(SessionCreated.of(session)), (location,))


async def _get_or_create(
    context: RequestContext, new: NewSession, replaced: list[str]
) -> tuple[Session, bool]:
    """Return the session and whether it is new; only then does the limit of pages apply."""
    creations, page = context.state.creations, context.page
    refusal = None
    if page:
        try:
            creations.count(page)
        except RateLimited as error:
            refusal = error
    try:
        session, is_new = await context.sessions.get_or_create(
            new, replaced, may_create=refusal is None
        )
    except TooManySessions:
        if refusal:
            raise refusal from None
        raise
    if page and not refusal and not is_new:
        creations.uncount(page)
    return session, is_new


async def list_sessions(context: RequestContext, query: ListSessions) -> JsonResponse:
    """List live sessions, page by page.

    The sessions of a user come newest first, by creation. The order of other listings is stable,
    but otherwise unspecified. A session that lives throughout a listing is returned exactly once.
    With ``order=activity`` the newest 1,000 sessions of a user are sorted by last activity.
    """
    user_id, agent_id = lower(query.user_id), lower(query.agent_id)
    by_activity = query.order is not UNSET
    if by_activity and user_id is None and context.credential.user is None:
        raise ValidationFailed("order", "must be left out unless userId is set")
    page = await context.sessions.list_page(
        limit=query.limit,
        user_id=user_id,
        agent_id=agent_id,
        cursor=None if query.cursor is UNSET else query.cursor,
        by_activity=by_activity,
    )
    if not context.credential.is_personal:
        context.audit(
            AuditEvent.SESSIONS_LISTED, user=user_id, agent=agent_id, listed=len(page.sessions)
        )
    return JsonResponse(200, encode(SessionList.of(page)))


async def get_sessions_health(context: RequestContext) -> JsonResponse:
    """Report the health of the service and its store.

    The status is ``healthy``, ``degraded`` with its reasons, or ``unhealthy`` with a 503.
    """
    timestamp = iso(time.time_ns() // 1_000_000)
    try:
        counts = await context.sessions.count()
    except StoreUnavailable as error:
        return error_response(
            error, status="unhealthy", timestamp=timestamp, uptime=context.state.uptime
        )
    reasons = []
    if not context.credential.is_limited:  # the reasons are about the whole system
        reasons += [reason for source in context.state.health_reasons for reason in source()]
    if counts.sweep_lag_ms >= _SWEEP_LATE_MS:
        reasons.append(f"deadlines are processed {counts.sweep_lag_ms / 1000:,.0f} s late")
    return JsonResponse(
        200,
        encode(
            SessionsHealth(
                status="degraded" if reasons else "healthy",
                reasons=reasons or UNSET,
                active_sessions=counts.active,
                expiring_soon=counts.near_expiration,
                timestamp=timestamp,
                uptime=context.state.uptime,
                invalid_sessions=counts.unreadable or UNSET,
            )
        ),
    )


ROUTES = (
    Route(
        method="DELETE",
        path=SESSIONS,
        handler=end_sessions,
        tag=Tag.MESSAGING,
        access=Permission.SESSIONS_WRITE,
        access_note="Ends only sessions that the caller may see. With `all`, it also needs"
        " `sessions:admin`.",
        query=EndSessions,
        response=SessionsEnded,
        success="Sessions ended",
        errors=(ValidationFailed, StoreUnavailable),
    ),
    Route(
        method="POST",
        path=SESSIONS,
        handler=create_session,
        created=("sessionId", "channelId"),
        tag=Tag.MESSAGING,
        access=Permission.SESSIONS_WRITE,
        body=CreateSession,
        status=201,
        response=SessionCreated,
        success="Session created; Location is its address",
        also={200: "The user's newest live session with the agent, with `getOrCreate`"},
        errors=(AgentNotFound, TooManySessions, TooManyKeys, StoreUnavailable),
        is_atomic=True,
        is_limited=True,
    ),
    Route(
        method="GET",
        path=SESSIONS,
        handler=list_sessions,
        tag=Tag.MESSAGING,
        access=Permission.SESSIONS_READ,
        access_note="Lists and counts only sessions that the caller may see. If these are not all,"
        " none is counted as expired.",
        query=ListSessions,
        response=SessionList,
        success="A page of sessions",
        errors=(ValidationFailed, StoreUnavailable),
    ),
    Route(
        method="GET",
        path=f"{SESSIONS}/health",
        handler=get_sessions_health,
        unhealthy_body=Unhealthy,
        tag=Tag.MESSAGING,
        access=Permission.SESSIONS_READ,
        access_note="A caller that may not see all sessions gets the number of active ones that it"
        " may see, and no reasons.",
        response=SessionsHealth,
        success="The service works",
        errors=(StoreUnavailable,),
    ),
)
