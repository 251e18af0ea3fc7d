"""Creates sessions, or finds those that exist already."""

from typing import Any, TypeVar

from session_service.domain.credentials import Kind
from session_service.domain.errors import TooManySessions
from session_service.domain.ids import new_id, shard_of_user
from session_service.domain.sessions import NewSession, Session, SessionLimits
from session_service.store.keys import Keys
from session_service.store.records import pack_id, pack_tail, unpack_session
from session_service.store.scripts.replacement import (
    GET_OR_REPLACE,
    REPLACE,
    GetOrReplaceArguments,
    ReplaceArguments,
)
from session_service.store.scripts.sessions import (
    CREATE,
    GET_OR_CREATE,
    NO_SESSIONS,
    CreateArguments,
    GetOrCreateArguments,
)
from session_service.store.scripts.variants import retaining_history
from session_service.store.sessions.scope import Scope

C = TypeVar("C", bound=CreateArguments)


class Creation:
    """Creates sessions. Raises StoreUnavailable.

    With ``limits.ends_oldest`` a user who has ``limits.per_user`` live sessions gets another one in
    the place of the oldest that exists for the caller. TooManySessions is raised if there is none,
    and without that setting. ``history_ms`` is how long the conversation of an ended one is kept.
    """

    def __init__(
        self, keys: Keys, limits: SessionLimits, *, retention_ms: int, history_ms: int
    ) -> None:
        self._keys = keys
        self._retention_ms = retention_ms
        self._per_user = limits.per_user
        self._ends_oldest = limits.ends_oldest and limits.per_user > 0
        self._replace = retaining_history(REPLACE, history_ms)
        self._get_or_replace = retaining_history(GET_OR_REPLACE, history_ms)

    async def create(self, scope: Scope, new: NewSession, replaced: list[str]) -> Session:
        """Create a session; raises TooManySessions.

        Adds the ids of sessions that were ended for it to ``replaced``.
        """
        session_id = new_id(shard_of_user(new.user_id), scope.random)
        if self._ends_oldest:
            keys = self._keys.of_session(self._replace.keys, session_id[:2], session_id)
            replacing = self._arguments(
                ReplaceArguments, session_id, new, self._per_user, **_caller(scope)
            )
            now, ended = await scope.executor.run(self._replace, keys, replacing)
            replaced += ended
        else:
            keys = self._keys.of_session(CREATE.keys, session_id[:2], session_id)
            arguments = self._arguments(CreateArguments, session_id, new, self._per_user)
            now = await scope.executor.run(CREATE, keys, arguments)
        if now is None:
            raise TooManySessions(self._per_user)
        return new.created(session_id, now)

    async def get_or_create(
        self, scope: Scope, new: NewSession, replaced: list[str], *, may_create: bool
    ) -> tuple[Session, bool]:
        """Return the user's newest live session with the agent, after a heartbeat, or a new one.

        Also return whether it is new. Raises TooManySessions if no other one may be created. Adds
        to ``replaced`` as ``create`` does.
        """
        session_id = new_id(shard_of_user(new.user_id), scope.random)
        most = self._per_user if may_create else NO_SESSIONS
        if self._ends_oldest:
            keys = self._keys.of_session(self._get_or_replace.keys, session_id[:2], session_id)
            replacing = self._arguments(
                GetOrReplaceArguments, session_id, new, most, **_caller(scope)
            )
            result, ended = await scope.executor.run(self._get_or_replace, keys, replacing)
            replaced += ended
        else:
            keys = self._keys.of_session(GET_OR_CREATE.keys, session_id[:2], session_id)
            arguments = self._arguments(GetOrCreateArguments, session_id, new, most)
            result = await scope.executor.run(GET_OR_CREATE, keys, arguments)
        if result is None:
            raise TooManySessions(self._per_user)
        if isinstance(result, int):
            return new.created(session_id, result), True
        return unpack_session(result.session_id, result.record), False

    def _arguments(
        self, kind: type[C], session_id: str, new: NewSession, most: int, **caller: Any
    ) -> C:
        return kind(
            retention_ms=self._retention_ms,
            session_id=pack_id(session_id),
            timeout_ms=new.timeout.timeout_ms,
            max_duration_ms=new.timeout.max_duration_ms,
            warning_ms=new.timeout.warning_ms,
            auto_renew=new.timeout.auto_renew,
            tail=pack_tail(new),
            max_sessions=most,
            **caller,
        )


def _caller(scope: Scope) -> dict[str, Any]:
    """Return the fields that the arguments of a replacement have in addition."""
    has_credential = scope.credential.kind is not Kind.OPEN
    return {"viewer": scope.viewer, "by": "limit" if has_credential else None}
