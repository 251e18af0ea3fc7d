"""Creates sessions, or finds those that exist already."""

from typing import TypeVar

from session_service.domain.errors import TooManySessions
from session_service.domain.ids import new_id, shard_of_user
from session_service.domain.sessions import NewSession, Session
from session_service.store.keys import Keys
from session_service.store.records import pack_id, pack_tail, unpack_session
from session_service.store.scripts.sessions import (
    CREATE,
    GET_OR_CREATE,
    NO_SESSIONS,
    CreateArguments,
    GetOrCreateArguments,
)
from session_service.store.sessions.scope import Scope

C = TypeVar("C", bound=CreateArguments)


class Creation:
    """Creates sessions. Raises StoreUnavailable.

    ``per_user`` is how many live sessions a user may have; 0 means no limit.
    """

    def __init__(self, keys: Keys, *, retention_ms: int, per_user: int) -> None:
        self._keys = keys
        self._retention_ms = retention_ms
        self._per_user = per_user

    async def create(self, scope: Scope, new: NewSession) -> Session:
        """Create a session; raises TooManySessions."""
        session_id = new_id(shard_of_user(new.user_id), scope.random)
        keys = self._keys.of_session(CREATE.keys, session_id[:2], session_id)
        arguments = self._arguments(CreateArguments, session_id, new, self._per_user)
        now = await scope.executor.run(CREATE, keys, arguments)
        if now is None:
            raise TooManySessions(self._per_user)
        return new.created(session_id, now)

    async def get_or_create(
        self, scope: Scope, new: NewSession, *, may_create: bool
    ) -> tuple[Session, bool]:
        """Return the user's newest live session with the agent, after a heartbeat, or a new one.

        Also return whether it is new. Raises TooManySessions if no other one may be created.
        """
        session_id = new_id(shard_of_user(new.user_id), scope.random)
        keys = self._keys.of_session(GET_OR_CREATE.keys, session_id[:2], session_id)
        most = self._per_user if may_create else NO_SESSIONS
        arguments = self._arguments(GetOrCreateArguments, session_id, new, most)
        result = await scope.executor.run(GET_OR_CREATE, keys, arguments)
        if result is None:
            raise TooManySessions(self._per_user)
        if isinstance(result, int):
            return new.created(session_id, result), True
        return unpack_session(result.session_id, result.record), False

    def _arguments(self, kind: type[C], session_id: str, new: NewSession, most: int) -> C:
        return kind(
            retention_ms=self._retention_ms,
            session_id=pack_id(session_id),
            timeout_ms=new.timeout.timeout_ms,
            max_duration_ms=new.timeout.max_duration_ms,
            warning_ms=new.timeout.warning_ms,
            auto_renew=new.timeout.auto_renew,
            tail=pack_tail(new),
            max_sessions=most,
        )
