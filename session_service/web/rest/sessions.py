"""Handlers and routes of one session, under ``/api/messaging/sessions/{sessionId}``."""

from session_service.api.sessions import (
    SessionEnded,
    SessionInfo,
    TimeoutSettings,
    UpdateSession,
)
from session_service.audit import AuditEvent
from session_service.domain.credentials import Permission
from session_service.domain.errors import (
    RecordUnreadable,
    RenewalFailed,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
)
from session_service.domain.sessions import Session
from session_service.web.http.context import RequestContext
from session_service.web.http.fields import compact_metadata, timeout_change
from session_service.web.http.response import JsonResponse, encode
from session_service.web.rest.route import MESSAGING, Route, Tag

SESSIONS = f"{MESSAGING}/sessions"
SESSION = SESSIONS + "/{sessionId}"
SESSION_ERRORS = (SessionNotFound, SessionExpired, RecordUnreadable, StoreUnavailable)

_ENDED = encode(SessionEnded("Session ended successfully"))


async def end_session(context: RequestContext, session_id: str) -> JsonResponse:
    """Explicitly end and delete a conversation session."""
    if context.state.audit is None:  # a block that is not audited would cost 0.3 us
        await context.sessions.end(session_id)
        context.count("ended")
        return JsonResponse(200, _ENDED)
    by = context.credential.ends_as
    with context.audited(AuditEvent.SESSION_ENDED, session=session_id, by=by):
        await context.sessions.end(session_id)
    context.count("ended")
    return JsonResponse(200, _ENDED)


async def get_session(context: RequestContext, session_id: str) -> JsonResponse:
    """Read a session."""
    return _info(await context.sessions.get(session_id))


async def renew_session(context: RequestContext, session_id: str) -> JsonResponse:
    """Renew a session, even if ``autoRenew`` is not set.

    Counts as activity.
    """
    session = await context.sessions.renew(session_id)
    context.count("renewed")
    return _info(session)


async def session_heartbeat(context: RequestContext, session_id: str) -> JsonResponse:
    """Keep a session alive.

    Counts as activity, and renews the session if ``autoRenew`` is set.
    """
    return _info(await context.sessions.heartbeat(session_id))


async def update_session_timeout(
    context: RequestContext, session_id: str, body: TimeoutSettings
) -> JsonResponse:
    """Change some timeout settings of a session and keep the others.

    The deadline is computed anew from the last renewal.
    """
    change = timeout_change(body, context.state.policy)
    return _info(await context.sessions.change_timeout(session_id, change))


async def update_session(
    context: RequestContext, session_id: str, body: UpdateSession
) -> JsonResponse:
    """Change the metadata of a session.

    Each member of ``metadata`` replaces that of the session; null removes it, and other members
    stay. Only members at the top level are merged: an object replaces an object as a whole. Does
    not count as activity.
    """
    patch = compact_metadata(body.metadata)
    return _info(await context.sessions.change_metadata(session_id, patch))


def _info(session: Session) -> JsonResponse:
    return JsonResponse(200, encode(SessionInfo.of(session)))


ROUTES = (
    Route(
        method="DELETE",
        path=SESSION,
        handler=end_session,
        summary="End Session",  # as published, like the description
        id_descriptions={"sessionId": "ID of the session to end"},
        tag=Tag.MESSAGING,
        access=Permission.SESSIONS_WRITE,
        response=SessionEnded,
        success="Session ended successfully",
        errors=(SessionNotFound, RecordUnreadable, StoreUnavailable),
        is_atomic=True,
    ),
    Route(
        method="GET",
        path=SESSION,
        handler=get_session,
        tag=Tag.MESSAGING,
        access=Permission.SESSIONS_READ,
        response=SessionInfo,
        success="The session",
        errors=SESSION_ERRORS,
    ),
    Route(
        method="POST",
        path=f"{SESSION}/renew",
        handler=renew_session,
        tag=Tag.MESSAGING,
        access=Permission.SESSIONS_WRITE,
        response=SessionInfo,
        success="The session, renewed",
        errors=(*SESSION_ERRORS, RenewalFailed),
        is_atomic=True,
    ),
    Route(
        method="POST",
        path=f"{SESSION}/heartbeat",
        handler=session_heartbeat,
        tag=Tag.MESSAGING,
        access=Permission.SESSIONS_WRITE,
        response=SessionInfo,
        success="The session",
        errors=SESSION_ERRORS,
        is_atomic=True,
    ),
    Route(
        method="PATCH",
        path=SESSION,
        handler=update_session,
        tag=Tag.MESSAGING,
        access=Permission.SESSIONS_WRITE,
        body=UpdateSession,
        response=SessionInfo,
        success="The session, changed",
        errors=SESSION_ERRORS,
    ),
    Route(
        method="PATCH",
        path=f"{SESSION}/timeout",
        handler=update_session_timeout,
        tag=Tag.MESSAGING,
        access=Permission.SESSIONS_WRITE,
        body=TimeoutSettings,
        response=SessionInfo,
        success="The session, changed",
        errors=SESSION_ERRORS,
    ),
)
