"""The operation on session tokens."""

from collections.abc import Sequence

from session_service.api.session_tokens import CreateSessionToken, SessionToken
from session_service.client.resource import Resource
from session_service.client.transport import operation, path_of


class Tokens(Resource):
    """``service.tokens``: credentials of pages, each for one session."""

    @operation("createSessionToken")
    async def create(
        self,
        session_id: str,
        scopes: Sequence[str],
        *,
        expires_in_minutes: float | None = None,
        timeout: float | None = None,
    ) -> SessionToken:
        """Create a token, e.g. with the scopes ``["messages:read", "messages:write"]``.

        The service keeps nothing of a token, so one that was lost with its response does no harm.
        """
        return await self._transport.call(
            "POST",
            path_of("sessions", session_id, "tokens"),
            SessionToken,
            body=CreateSessionToken(scopes=[*scopes], expires_in_minutes=expires_in_minutes),
            timeout=timeout,
        )
