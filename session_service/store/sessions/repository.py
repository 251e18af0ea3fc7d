"""SessionRepository: one method, one operation, one script, one round trip."""

import copy
from typing import Any

from msgspec.structs import replace

from session_service.domain.errors import (
    RecordUnreadable,
    RenewalFailed,
    ServiceError,
    SessionExpired,
    SessionNotFound,
    TooManyMessages,
    TooManySessions,
    ValidationFailed,
)
from session_service.domain.events import EventPolicy
from session_service.domain.ids import (
    new_id,
    new_message_id,
    shard_of_session,
    shard_of_user,
)
from session_service.domain.messages import History, Message, NewMessage, content_too_long
from session_service.domain.sessions import (
    NewSession,
    Session,
    SessionCounts,
    SessionLimits,
    SessionPage,
)
from session_service.domain.timeouts import TimeoutChange, to_minutes
from session_service.store import scripts
from session_service.store.client.executor import Argument, ScriptExecutor
from session_service.store.idempotency import Claims
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.records import (
    pack_tail,
    refusal,
    unpack_session,
)
from session_service.store.scripts import Script
from session_service.store.sessions import bulk, conversations
from session_service.store.sessions.bulk import BulkEnd
from session_service.store.sessions.conversations import Range
from session_service.store.sessions.counts import Counts
from session_service.store.sessions.listing import Listing, Selection
from session_service.store.sessions.scope import Scope
from session_service.store.sessions.unreadable import Unreadable


class SessionRepository:
    """The sessions in the store.

    Every method raises StoreUnavailable if the store does not answer in time. Those that take a
    session id, in either case, raise SessionNotFound and RecordUnreadable, and all but ``end``
    raise SessionExpired within the retention.
    ``retention_ms`` is how long an expired session is remembered, ``history_ms`` how long the
    conversation of a session that is over is kept.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        retention_ms: int,
        events: EventPolicy = EventPolicy(),
        history_ms: int = 0,
        *,
        limits: SessionLimits = SessionLimits(),
        quarantine: Quarantine | None = None,
    ) -> None:
        quarantine = Quarantine() if quarantine is None else quarantine
        self.scope = Scope(executor)
        self._keys = keys
        self._limits = limits
        self._retention = retention_ms
        self._retention_ms = b"%d" % retention_ms
        self._max_messages = b"%d" % limits.messages
        self._told_with_content = ("1",) if events.content else ()
        self._history_ms = (b"%d" % history_ms,) if history_ms else ()
        self._end, self._end_all = (
            script.keeping if history_ms else script for script in (scripts.END, scripts.END_ALL)
        )
        self._unreadable = Unreadable(executor, keys)
        self._counts = Counts(executor, keys, self._retention_ms, quarantine)
        self._listing = Listing(
            executor,
            keys,
            self._counts,
            self._retention_ms,
            quarantine=quarantine,
            unreadable=self._unreadable,
        )
        self.claims = Claims(executor, keys)

    def scoped(self, scope: Scope) -> "SessionRepository":
        """Return a copy that runs its scripts in another scope and shares all else.

        Counts and pages of sessions run outside of it: they change nothing.
        """
        scoped = copy.copy(self)
        scoped.scope = scope
        return scoped

    async def create(self, new: NewSession) -> Session:
        """Create a session; raises TooManySessions."""
        shard = shard_of_user(new.user_id)
        session_id = new_id(shard, self.scope.random)
        timeout = new.timeout
        now = await self.scope.executor.run(
            scripts.CREATE,
            self._keys.of_session(scripts.CREATE.keys, shard, session_id),
            (
                self._retention_ms,
                session_id,
                timeout.timeout_ms,
                timeout.max_duration_ms,
                timeout.warning_ms,
                int(timeout.auto_renew),
                pack_tail(new),
                self._limits.per_user,
            ),
        )
        if now == b"full":
            raise TooManySessions(self._limits.per_user)
        return Session(
            id=session_id,
            agent_id=new.agent_id,
            user_id=new.user_id,
            created_at=now,
            last_activity=now,
            last_renewal=now,
            renewal_count=0,
            timeout=timeout,
            metadata=new.metadata,
            observed_at=now,
        )

    async def get(self, session_id: str) -> Session:
        """Read a session."""
        session_id = session_id.lower()
        shard = shard_of_session(session_id)
        if shard is None:
            raise SessionNotFound
        try:
            seconds, microseconds, record = await self.scope.executor.run(
                scripts.GET, self._keys.of_session(scripts.GET.keys, shard, session_id), ()
            )
            if record is None:
                raise SessionNotFound
            now = int(seconds) * 1000 + int(microseconds) // 1000
            session = unpack_session(session_id, record, now)
        except RecordUnreadable:
            self._unreadable.met(session_id)
            raise
        if (expires_at := session.expires_at) <= now:
            is_remembered = expires_at + self._retention > now
            raise SessionExpired(expires_at) if is_remembered else SessionNotFound()
        return session

    async def end(self, session_id: str) -> None:
        """End a session; of any number of callers one succeeds, the others get SessionNotFound."""
        if not await self._call(self._end, session_id, *self._history_ms):
            raise SessionNotFound

    async def end_all(self, *, user_id: str | None = None, agent_id: str | None = None) -> BulkEnd:
        """End the sessions of a user, of an agent, of both, or with neither all there are.

        Safe to repeat. The cost grows with the sessions that match, not with the others.
        """
        selected = Selection.of(user_id, agent_id)
        durations = (self._retention_ms, *self._history_ms)
        return await bulk.end_all(
            self.scope.executor, self._keys, self._end_all, durations, selected
        )

    async def renew(self, session_id: str) -> Session:
        """Renew a session; raises RenewalFailed at its maximum duration."""
        session, exhausted = await self._run(scripts.RENEW, session_id)
        if exhausted:
            raise RenewalFailed(to_minutes(session.timeout.max_duration_ms))
        return session

    async def heartbeat(self, session_id: str) -> Session:
        """Count an activity, which renews the session if it is set to renew by itself."""
        session, _ = await self._run(scripts.HEARTBEAT, session_id)
        return session

    async def change_timeout(self, session_id: str, change: TimeoutChange) -> Session:
        """Change a session's timeout; raises ValidationFailed, and then changes nothing."""
        session, (now, *why) = await self._run(
            scripts.TIMEOUT,
            session_id,
            "" if change.timeout_ms is None else change.timeout_ms,
            "" if change.max_duration_ms is None else change.max_duration_ms,
            "" if change.warning_ms is None else change.warning_ms,
            "" if change.auto_renew is None else int(change.auto_renew),
        )
        if why == [b"conflict"]:
            change.applied_to(session.timeout).check()
        if why == [b"past"]:
            raise ValidationFailed(
                "timeoutMinutes" if change.timeout_ms is not None else "maxDurationMinutes",
                "would put expiresAt in the past; allowed is what leaves the session alive now",
            )
        return replace(session, observed_at=now)

    async def send(
        self, session_id: str, new: NewMessage, message_id: str | None = None
    ) -> tuple[Message, Session, bool]:
        """Store a message; return it, the session after it, and whether that was renewed.

        A caller that has to know the message's id before its event gives a new one.
        """
        message_id = message_id or new_message_id(self.scope.random)
        session, stored = await self._run(
            scripts.SEND,
            session_id,
            message_id,
            new.author_id or "",
            new.content,
            new.metadata,
            new.attachments or b"",
            self._max_messages,
            new.long_for(self._limits.reply_bytes),
            *self._told_with_content,
        )
        if len(stored) == 1:
            raise self._refusal(stored[0])
        created_at, by, renewed = stored
        is_agent = by == b"agent"
        message = Message(
            id=message_id,
            content=new.content,
            author_id=session.agent_id if is_agent else session.user_id,
            is_agent=is_agent,
            created_at=created_at,
            metadata=new.metadata,
            attachments=new.attachments,
        )
        return message, session, bool(renewed)

    def _refusal(self, why: bytes) -> ServiceError:
        """Return the error for a message that lua/send.lua has not stored."""
        if why == b"full":
            return TooManyMessages(self._limits.messages)
        if why == b"length":
            return content_too_long(self._limits.reply_bytes)
        return ValidationFailed("authorId", "must be the session's userId or agentId")

    async def history(
        self, session_id: str, *, limit: int, before: int | None = None, after: int | None = None
    ) -> History:
        """Read a page, newest first: at most ``limit`` messages and ``PAGE_BYTES``, at least one.

        ``before`` and ``after`` are exclusive epoch milliseconds. The newest ones in the range are
        read, but with ``after`` alone those that follow it directly.
        """
        wanted = Range(limit, before, after)
        session, (more, entries) = await self._run(scripts.HISTORY, session_id, *wanted.arguments())
        return wanted.page(more, entries, session.agent_id, session.user_id)

    async def kept_history(
        self, session_id: str, *, limit: int, before: int | None = None, after: int | None = None
    ) -> History:
        """Read a conversation whose session is over, as ``history`` does.

        Raises ConversationNotFound if none is kept.
        """
        wanted = Range(limit, before, after)
        return await conversations.read(self.scope.executor, self._keys, session_id, wanted)

    async def erase_history(self, session_id: str) -> None:
        """Erase a conversation whose session is over; raises ConversationNotFound."""
        await conversations.erase(self.scope.executor, self._keys, session_id)

    async def count(self) -> SessionCounts:
        """Count the sessions of all shards."""
        counts, _ = await self._counts.count()
        return counts

    async def list_page(
        self,
        *,
        limit: int,
        user_id: str | None = None,
        agent_id: str | None = None,
        position: str | None = None,
    ) -> SessionPage:
        """Read one page of the live sessions, in an order that never changes (listing.py).

        ``position`` is an earlier page's ``next_position``; raises ValidationFailed for any other
        text. The cost is two round trips, a count of the shards and the page. Of one user it is
        mostly one, and the counts over all sessions are at most a second old.
        """
        return await self._listing.page(Selection.of(user_id, agent_id), limit, position)

    async def ping(self) -> None:
        """Return if the store answers."""
        await self.scope.executor.ping()

    async def _call(self, script: Script, session_id: str, *arguments: Argument) -> Any:
        session_id = session_id.lower()
        shard = shard_of_session(session_id)
        if shard is None:
            raise SessionNotFound
        keys = self._keys.of_session(script.keys, shard, session_id)
        try:
            reply = await self.scope.executor.run(
                script, keys, (self._retention_ms, session_id, *arguments)
            )
            if reply is None or isinstance(reply, bytes):
                raise refusal(reply)
        except RecordUnreadable:
            self._unreadable.met(session_id)
            raise
        return reply

    async def _run(
        self, script: Script, session_id: str, *arguments: Argument
    ) -> tuple[Session, list[Any]]:
        """Call a script that replies with a session's record first, and what more it has."""
        session_id = session_id.lower()
        record, *more = await self._call(script, session_id, *arguments)
        return unpack_session(session_id, record), more
