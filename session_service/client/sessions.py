"""The operations on sessions."""

from typing import Any, Literal

from msgspec import UNSET

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
    UpdateSession,
)
from session_service.client.paging import Pages
from session_service.client.resource import Resource
from session_service.client.transport import operation, path_of


class Sessions(Resource):
    """``service.sessions``: create, read, list, renew, change and end sessions."""

    @operation("createSession")
    async def create(
        self,
        user_id: str,
        agent_id: str,
        *,
        metadata: dict[str, Any] | None = None,
        timeout_config: TimeoutSettings | None = None,
        get_or_create: bool | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> SessionCreated:
        """Create a session for a user and an agent.

        With ``get_or_create``, return the user's newest live session with the agent, after a
        heartbeat, if there is one.
        """
        body = CreateSession(
            agent_id=agent_id,
            user_id=user_id,
            metadata=metadata,
            timeout_config=timeout_config,
            get_or_create=get_or_create,
        )
        return await self._transport.call(
            "POST",
            path_of("sessions"),
            SessionCreated,
            body=body,
            has_key=True,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    @operation("getSession")
    async def get(self, session_id: str, *, timeout: float | None = None) -> SessionInfo:
        """Read a session. This is no activity of the session."""
        path = path_of("sessions", session_id)
        return await self._transport.call("GET", path, SessionInfo, timeout=timeout)

    def list(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        order: Literal["activity"] | None = None,
        limit: int = 100,
        cursor: str | None = None,
        timeout: float | None = None,
    ) -> Pages[SessionList, SessionInfo, str]:
        """Return the live sessions, from pages of up to ``limit``.

        Those of a user come newest first; with ``order="activity"``, by their last activity.
        """

        async def read(cursor: str | None) -> SessionList:
            return await self.list_page(
                user_id=user_id,
                agent_id=agent_id,
                order=order,
                limit=limit,
                cursor=cursor,
                timeout=timeout,
            )

        return Pages(read, lambda page: page.sessions, lambda page: page.next_cursor, cursor)

    @operation("listSessions")
    async def list_page(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        order: Literal["activity"] | None = None,
        limit: int = 100,
        cursor: str | None = None,
        timeout: float | None = None,
    ) -> SessionList:
        """Return one page of sessions, with their total and the ``next_cursor``."""
        query = ListSessions(
            limit=limit,
            cursor=UNSET if cursor is None else cursor,
            user_id=UNSET if user_id is None else user_id,
            agent_id=UNSET if agent_id is None else agent_id,
            order=UNSET if order is None else order,
        )
        return await self._transport.call(
            "GET", path_of("sessions"), SessionList, query=query, timeout=timeout
        )

    @operation("sessionHeartbeat")
    async def heartbeat(
        self,
        session_id: str,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> SessionInfo:
        """Keep a session alive: this is activity, and renews it if it has ``auto_renew``.

        By default a heartbeat has no ``Idempotency-Key``: one more does no harm, and the store
        would keep each key for a day.
        """
        return await self._transport.call(
            "POST",
            path_of("sessions", session_id, "heartbeat"),
            SessionInfo,
            idempotency_key=idempotency_key,
            timeout=timeout,
            max_retries=max_retries,
        )

    @operation("renewSession")
    async def renew(
        self,
        session_id: str,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> SessionInfo:
        """Renew a session, even if it has no ``auto_renew``; raises SessionRenewalFailed."""
        return await self._transport.call(
            "POST",
            path_of("sessions", session_id, "renew"),
            SessionInfo,
            has_key=True,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    @operation("updateSession")
    async def update(
        self, session_id: str, *, metadata: dict[str, Any], timeout: float | None = None
    ) -> SessionInfo:
        """Merge ``metadata`` into that of a session; None removes a member.

        It is repeated only if the service did nothing: after a lost response, a repetition could
        undo the change that another caller has made since then.
        """
        return await self._transport.call(
            "PATCH",
            path_of("sessions", session_id),
            SessionInfo,
            body=UpdateSession(metadata=metadata),
            is_repeatable=False,
            timeout=timeout,
        )

    @operation("updateSessionTimeout")
    async def update_timeout(
        self,
        session_id: str,
        *,
        timeout_minutes: float | None = None,
        auto_renew: bool | None = None,
        max_duration_minutes: float | None = None,
        warning_threshold_minutes: float | None = None,
        timeout: float | None = None,
    ) -> SessionInfo:
        """Change some timeout settings of a session; like ``update``, it is seldom repeated."""
        body = TimeoutSettings(
            timeout_minutes=timeout_minutes,
            auto_renew=auto_renew,
            max_duration_minutes=max_duration_minutes,
            warning_threshold_minutes=warning_threshold_minutes,
        )
        return await self._transport.call(
            "PATCH",
            path_of("sessions", session_id, "timeout"),
            SessionInfo,
            body=body,
            is_repeatable=False,
            timeout=timeout,
        )

    @operation("endSession")
    async def end(
        self,
        session_id: str,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> SessionEnded:
        """End a session, and delete its conversation unless it is kept."""
        return await self._transport.call(
            "DELETE",
            path_of("sessions", session_id),
            SessionEnded,
            has_key=True,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    @operation("endSessions")
    async def end_many(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        all_: bool = False,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> SessionsEnded:
        """End the sessions of a user, of an agent, of both, or all; call it while ``more``.

        One call works for two seconds at most.
        """
        query = EndSessions(
            user_id=UNSET if user_id is None else user_id,
            agent_id=UNSET if agent_id is None else agent_id,
            all_="true" if all_ else UNSET,
        )
        return await self._transport.call(
            "DELETE",
            path_of("sessions"),
            SessionsEnded,
            query=query,
            has_key=True,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )
