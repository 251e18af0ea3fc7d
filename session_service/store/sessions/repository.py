"""The session repository: one operation is one method, one script and one round trip."""

from msgspec.structs import replace

from session_service.domain.credentials import Permission
from session_service.domain.errors import (
    NotPermitted,
    RecordUnreadable,
    RenewalFailed,
    ServiceError,
    SessionExpired,
    SessionNotFound,
    TooManyMessages,
    ValidationFailed,
)
from session_service.domain.events import EventPolicy
from session_service.domain.ids import new_message_id
from session_service.domain.messages import History, Message, NewMessage, content_too_long
from session_service.domain.sessions import (
    NewSession,
    Session,
    SessionCounts,
    SessionLimits,
    SessionPage,
    metadata_too_large,
    normal_id,
)
from session_service.domain.timeouts import TimeoutChange, to_minutes
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.script import NO_ARGUMENTS, A, R, Script
from session_service.store.keys import Keys
from session_service.store.messages import pack_message
from session_service.store.quarantine import Quarantine
from session_service.store.records import pack_id, unpack_session
from session_service.store.scripts.conversations import HISTORY, HistoryArguments
from session_service.store.scripts.sessions import (
    END,
    END_ALL,
    GET,
    GET_VISIBLE,
    HEARTBEAT,
    METADATA,
    RENEW,
    SEND,
    TIMEOUT,
    EndArguments,
    MetadataArguments,
    NotSent,
    SendArguments,
    SessionArguments,
    TimeoutArguments,
    VisibleArguments,
)
from session_service.store.scripts.variants import retaining_history
from session_service.store.sessions import bulk, conversations
from session_service.store.sessions.bulk import BulkEnd
from session_service.store.sessions.conversations import MessageRange
from session_service.store.sessions.counts import KnownSizes, SessionCounter
from session_service.store.sessions.creation import Creation
from session_service.store.sessions.idempotency import IdempotencyKeys
from session_service.store.sessions.listing import Listing
from session_service.store.sessions.paging import Selection
from session_service.store.sessions.repairs import Verification
from session_service.store.sessions.scope import Scope
from session_service.store.sessions.unreadable import UnreadableSessions


class SessionRepository:
    """Reads and changes the sessions in the store.

    Every method raises StoreUnavailable if the store does not answer in time. Methods that take a
    session id (in upper or lower case) raise SessionNotFound and RecordUnreadable, and all but
    ``end`` raise SessionExpired during the retention.

    ``retention_ms`` is how long expired sessions answer SessionExpired, and ``history_ms`` how long
    the conversation of a session is retained after it is over.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        *,
        retention_ms: int,
        history_ms: int,
        events: EventPolicy,
        limits: SessionLimits,
        quarantine: Quarantine,
        known_sizes: KnownSizes,
        verification: Verification,
    ) -> None:
        self.scope = Scope(executor)
        self._keys = keys
        self._limits = limits
        self._retention_ms = retention_ms
        self._events = events
        self._end = retaining_history(END, history_ms)
        self._end_all = retaining_history(END_ALL, history_ms)
        self._creation = Creation(keys, limits, retention_ms=retention_ms, history_ms=history_ms)
        self._unreadable = UnreadableSessions(executor, keys)
        self._counter = SessionCounter(executor, keys, known_sizes, retention_ms, quarantine)
        self._listing = Listing(
            executor,
            keys,
            self._counter,
            quarantine=quarantine,
            unreadable=self._unreadable,
            verification=verification,
        )
        self.idempotency_keys = IdempotencyKeys(executor, keys)

    def scoped(self, scope: Scope) -> "SessionRepository":
        """Return a copy that runs its scripts in another scope and shares all else.

        Counts and pages of sessions run outside of it: they change nothing.
        """
        scoped = object.__new__(type(self))  # half the time of copy.copy
        scoped.__dict__.update(self.__dict__, scope=scope)
        return scoped

    async def create(self, new: NewSession, replaced: list[str] | None = None) -> Session:
        """Create a session; raises TooManySessions.

        Adds the ids of sessions that were ended for it to ``replaced``.
        """
        return await self._creation.create(self.scope, new, [] if replaced is None else replaced)

    async def get_or_create(
        self, new: NewSession, replaced: list[str] | None = None, *, may_create: bool
    ) -> tuple[Session, bool]:
        """Return the user's newest live session with the agent, after a heartbeat, or a new one.

        Also return whether it is new. Raises TooManySessions if no other one may be created. Adds
        to ``replaced`` as ``create`` does.
        """
        replaced = [] if replaced is None else replaced
        return await self._creation.get_or_create(self.scope, new, replaced, may_create=may_create)

    async def get(self, session_id: str) -> Session:
        """Read a session."""
        session_id = normal_id(session_id)
        keys = self._keys.of_session(GET.keys, session_id[:2], session_id)
        run, viewer = self.scope.executor.run, self.scope.viewer
        try:
            if viewer is None:
                now, record = await run(GET, keys, NO_ARGUMENTS)
            else:
                arguments = VisibleArguments(pack_id(session_id), viewer)
                now, record = await run(GET_VISIBLE, keys, arguments)
            if record is None:
                raise SessionNotFound
            session = unpack_session(session_id, record, now)
        except RecordUnreadable:
            self._unreadable.report(session_id)
            if self.scope.viewer is None:
                raise
            raise SessionNotFound from None  # whose it is cannot be known
        if (expires_at := session.expires_at) <= now:
            is_remembered = expires_at + self._retention_ms > now
            raise SessionExpired(expires_at) if is_remembered else SessionNotFound()
        return session

    async def end(self, session_id: str) -> None:
        """End a session; of concurrent callers one succeeds, and the others get SessionNotFound."""
        session_id = normal_id(session_id)
        arguments = EndArguments(*self._one(session_id), self.scope.credential.ends_as)
        if not await self._run(self._end, session_id, arguments):
            raise SessionNotFound

    async def end_all(self, *, user_id: str | None = None, agent_id: str | None = None) -> BulkEnd:
        """End the sessions of a user, of an agent, of both, or, without either, all sessions.

        Only those that exist for the credential end. It is safe to repeat. The cost depends on the
        sessions that match only. Raises NotPermitted, as ``Selection.of`` does.
        """
        selected = Selection.of(user_id, agent_id, self.scope.credential)
        return await bulk.end_all(self.scope, self._keys, self._end_all, selected)

    async def renew(self, session_id: str) -> Session:
        """Renew a session; raises RenewalFailed at its maximum duration."""
        session_id = normal_id(session_id)
        arguments = SessionArguments(*self._one(session_id))
        renewal = await self._run(RENEW, session_id, arguments)
        session = unpack_session(session_id, renewal.record)
        if renewal.is_exhausted:
            raise RenewalFailed(to_minutes(session.timeout.max_duration_ms))
        return session

    async def heartbeat(self, session_id: str) -> Session:
        """Record activity, which also renews a session that has ``auto_renew``."""
        session_id = normal_id(session_id)
        arguments = SessionArguments(*self._one(session_id))
        return unpack_session(session_id, await self._run(HEARTBEAT, session_id, arguments))

    async def change_timeout(self, session_id: str, change: TimeoutChange) -> Session:
        """Change the timeout of a session; raises ValidationFailed, and changes nothing then."""
        session_id = normal_id(session_id)
        arguments = TimeoutArguments(
            *self._one(session_id),
            timeout_ms=change.timeout_ms,
            max_duration_ms=change.max_duration_ms,
            warning_ms=change.warning_ms,
            auto_renew=change.auto_renew,
        )
        changed = await self._run(TIMEOUT, session_id, arguments)
        session = unpack_session(session_id, changed.record)
        if changed.problem == b"conflict":
            change.applied_to(session.timeout).check()
        if changed.problem == b"past":
            raise ValidationFailed(
                "timeoutMinutes" if change.timeout_ms is not None else "maxDurationMinutes",
                "would put expiresAt in the past; allowed is what leaves the session alive now",
            )
        return replace(session, observed_at=changed.now)

    async def change_metadata(self, session_id: str, patch: bytes) -> Session:
        """Merge compact JSON into the metadata of a session, as lua/metadata.lua does.

        Raises ValidationFailed if the result is too large, and changes nothing then.
        """
        session_id = normal_id(session_id)
        arguments = MetadataArguments(*self._one(session_id), patch)
        changed = await self._run(METADATA, session_id, arguments)
        if changed.too_large:
            raise metadata_too_large(changed.too_large)
        return unpack_session(session_id, changed.record, changed.now)

    async def send(
        self, session_id: str, new: NewMessage, message_id: str | None = None
    ) -> tuple[Message, Session, bool]:
        """Store a message; return it, its session, and whether the session was renewed.

        ``message_id`` is for callers that must know the id before the event of the message.
        """
        session_id = normal_id(session_id)
        message_id = message_id or new_message_id(self.scope.random)
        credential = self.scope.credential
        credential.admit_author(new.author_id)
        arguments = SendArguments(
            *self._one(session_id),
            message_id=message_id,
            author_id=pack_id(new.author_id) if new.author_id else None,
            may_be_agent=Permission.MESSAGES_AGENT in credential.permissions,
            message=pack_message(message_id, new),
            max_messages=self._limits.messages,
            fits_only=new.long_for(self._limits.reply_bytes),
            content_bytes=len(new.content.encode()) if self._events.content else None,
        )
        sent = await self._run(SEND, session_id, arguments)
        session = unpack_session(session_id, sent.record)
        if isinstance(sent, NotSent):
            raise self._refusal(sent.problem)
        is_agent = sent.author == b"agent"
        author_id = session.agent_id if is_agent else session.user_id
        message = new.stored(message_id, author_id, sent.created_at, is_agent=is_agent)
        return message, session, sent.is_renewed

    def _refusal(self, problem: bytes) -> ServiceError:
        """Return the error for a message that lua/send.lua did not store."""
        if problem == b"agent":
            return NotPermitted.for_lack_of(Permission.MESSAGES_AGENT)
        if problem == b"full":
            return TooManyMessages(self._limits.messages)
        if problem == b"length":
            return content_too_long(self._limits.reply_bytes)
        return ValidationFailed("authorId", "must be the session's userId or agentId")

    async def history(
        self, session_id: str, *, limit: int, before: int | None = None, after: int | None = None
    ) -> History:
        """Read a page, newest first: at most ``limit`` messages and ``PAGE_BYTES``, at least one.

        ``before`` and ``after`` are exclusive, in epoch milliseconds. The page has the newest
        messages of the range, or, with ``after`` alone, those that follow it directly.
        """
        session_id = normal_id(session_id)
        selected = MessageRange(limit, before, after)
        arguments = HistoryArguments(*selected.arguments(), *self._one(session_id))
        record, more, messages = await self._run(HISTORY, session_id, arguments)
        session = unpack_session(session_id, record)
        return selected.page(more, messages, session.agent_id, session.user_id)

    async def retained_history(
        self, session_id: str, *, limit: int, before: int | None = None, after: int | None = None
    ) -> History:
        """Read the retained conversation of a session that is over, as ``history`` does.

        Raises ConversationNotFound.
        """
        selected = MessageRange(limit, before, after)
        return await conversations.read(self.scope, self._keys, session_id, selected)

    async def erase_history(self, session_id: str) -> None:
        """Erase the retained conversation of a session; raises ConversationNotFound."""
        await conversations.erase(self.scope, self._keys, session_id)

    async def count(self) -> SessionCounts:
        """Wait for a reply of the store; return the counts of all sessions, of the last second.

        A limited credential gets the number of active sessions that exist for it, and no others.
        """
        if self.scope.credential.is_limited:
            await self.ping()
            return await self._listing.count(Selection.of(None, None, self.scope.credential))
        return await self._counter.count()

    async def list_page(
        self,
        *,
        limit: int,
        user_id: str | None = None,
        agent_id: str | None = None,
        cursor: str | None = None,
        by_activity: bool = False,
    ) -> SessionPage:
        """Read a page of the live sessions, in an order that never changes (listing.py).

        ``cursor`` is the ``next_cursor`` of the page before; raises ValidationFailed for any other
        text. It takes two round trips, to count the shards and to read the page; for one user
        mostly one. The total is exact, and the counts of all sessions are of the last second. Only
        the sessions that exist for the credential are listed and counted, and of those that are
        over none is counted, unless all exist for it. Raises NotPermitted, as ``Selection.of``
        does.

        With ``by_activity``, the newest 1,000 of a user are sorted by last activity (activity.py),
        in two round trips if the user has less than 250, and in six for 1,000.
        """
        read = self._listing.page_by_activity if by_activity else self._listing.page
        credential = self.scope.credential
        visible = Selection.of(None, None, credential)
        return await read(Selection.of(user_id, agent_id, credential), visible, limit, cursor)

    async def ping(self) -> None:
        """Wait for a reply of the store."""
        await self.scope.executor.ping()

    def _one(self, session_id: str) -> tuple[int, bytes, bytes | None]:
        """Return the fields of SessionArguments for an id as of ``normal_id``."""
        return self._retention_ms, pack_id(session_id), self.scope.viewer

    async def _run(self, script: Script[A, R], session_id: str, arguments: A) -> R:
        """Run a script on a session, by an id as of ``normal_id``, and return the reply."""
        keys = self._keys.of_session(script.keys, session_id[:2], session_id)
        try:
            return await self.scope.executor.run(script, keys, arguments)
        except RecordUnreadable:
            self._unreadable.report(session_id)
            if self.scope.viewer is None:
                raise
            raise SessionNotFound from None  # whose it is cannot be known
