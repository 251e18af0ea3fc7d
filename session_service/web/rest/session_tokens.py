"""The handler and the route of session tokens; the route exists only if the service has any."""

from session_service.access.session_tokens import end_of
from session_service.api.session_tokens import (
    DEFAULT_MINUTES,
    SCOPES_FORMAT,
    CreateSessionToken,
    SessionToken,
)
from session_service.audit import AuditEvent
from session_service.domain.credentials import (
    ALL_PERMISSIONS,
    SESSION_TOKEN_PERMISSIONS,
    Credential,
    Kind,
    Permission,
    permissions_of,
)
from session_service.domain.errors import NotPermitted, ValidationFailed
from session_service.domain.timeouts import to_ms
from session_service.domain.times import iso
from session_service.web.http.context import RequestContext
from session_service.web.http.errors import RouteNotFound
from session_service.web.http.response import JsonResponse, encode
from session_service.web.rest.route import Route, Tag
from session_service.web.rest.sessions import SESSION, SESSION_ERRORS


async def create_session_token(
    context: RequestContext, session_id: str, body: CreateSessionToken
) -> JsonResponse:
    """Create a token with which a page can use this session, and do nothing else.

    The caller needs each of the ``scopes`` itself. The token ends with the session's maximum
    duration and with the caller's credential, even if ``expiresInMinutes`` is longer. It is not
    stored, so an ``Idempotency-Key`` has no effect. Does not count as activity.
    """
    tokens, credential = context.state.session_tokens, context.credential
    if tokens is None:
        raise RouteNotFound
    _check_scopes(credential, body.scopes)
    session = await context.sessions.get(session_id)
    minutes = DEFAULT_MINUTES if body.expires_in_minutes is None else body.expires_in_minutes
    expires = end_of(credential, session, to_ms(minutes))
    token = tokens.mint(credential, session, permissions_of(body.scopes), expires)
    scopes = list(dict.fromkeys(body.scopes))
    context.audit(
        AuditEvent.MINTED,
        session=session.id,
        user=session.user_id,
        scopes=scopes,
        expires_at=iso(expires),
    )
    return JsonResponse(201, encode(SessionToken(token, iso(expires), scopes)))


def _check_scopes(credential: Credential, scopes: list[str]) -> None:
    """Raise NotPermitted for a scope that the caller lacks, or ValidationFailed for others."""
    if credential.kind is Kind.SESSION:
        raise NotPermitted("A session token cannot create others.")
    for scope in scopes:
        if scope in ALL_PERMISSIONS:
            credential.require(Permission(scope))
    if not set(scopes).issubset(SESSION_TOKEN_PERMISSIONS):
        raise ValidationFailed("scopes", f"must be {SCOPES_FORMAT}")


ROUTES = (
    Route(
        method="POST",
        path=f"{SESSION}/tokens",
        handler=create_session_token,
        tag=Tag.MESSAGING,
        access=Permission.SESSIONS_WRITE,
        body=CreateSessionToken,
        status=201,
        response=SessionToken,
        success="The token, which is not shown again",
        errors=SESSION_ERRORS,
        is_secret=True,
    ),
)
