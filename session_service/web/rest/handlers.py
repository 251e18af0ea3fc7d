"""One function an operation: take the request, call the repository, write the answer."""

import time

import msgspec
from msgspec import UNSET, UnsetType

from session_service.api.events import StreamEvents, StreamSessionEvents
from session_service.api.health import ProbeStatus, SessionsHealth
from session_service.api.messages import (
    ConversationErased,
    MessagePage,
    MessageSent,
    ReadHistory,
    SendMessage,
)
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
    ServiceError,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    ValidationFailed,
)
from session_service.domain.events import EventFilter, EventId
from session_service.domain.messages import NewMessage
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import TimeoutChange, TimeoutPolicy
from session_service.domain.times import iso
from session_service.web.http.decoding import compact_attachments, compact_metadata, moment
from session_service.web.http.errors import NotReady, error_answer
from session_service.web.http.response import Answer, encode
from session_service.web.service import Service
from session_service.web.streaming.sse import EventStream

MESSAGING = "/api/messaging"
SESSIONS = f"{MESSAGING}/sessions"
CHANNELS = f"{MESSAGING}/channels"

_ENDED = encode(SessionEnded("Session ended successfully"))
_ERASED = encode(ConversationErased("Conversation erased successfully"))
_LATE_MS = 10_000  # a deadline not acted on for this long means that the sweep is behind


async def end_session(service: Service, session_id: str) -> Answer:
    """End a session and delete its conversation."""
    await service.repository.end(session_id)
    return Answer(200, _ENDED)


async def end_sessions(service: Service, given: EndSessions) -> Answer:
    """End the sessions of a user, of an agent, of both, or all."""
    user_id, agent_id = _lower(given.user_id), _lower(given.agent_id)
    of_some = user_id is not None or agent_id is not None
    if given.all_ is UNSET and not of_some:
        raise ValidationFailed(
            "userId, agentId or all", "is required: a UUID, or all=true for every session there is"
        )
    if given.all_ is not UNSET and of_some:
        raise ValidationFailed("all", "must be left out where userId or agentId is given")
    ended, more = await service.repository.end_all(user_id=user_id, agent_id=agent_id)
    return _reply(200, SessionsEnded(ended, more))


async def create_session(service: Service, given: CreateSession) -> Answer:
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


async def list_sessions(service: Service, given: ListSessions) -> Answer:
    """List live sessions, page by page."""
    page = await service.repository.list_page(
        limit=given.limit,
        user_id=_lower(given.user_id),
        agent_id=_lower(given.agent_id),
        position=None if given.cursor is UNSET else given.cursor,
    )
    return _reply(200, SessionList.of(page))


async def get_sessions_health(service: Service) -> Answer:
    """Report the health of the service and its store."""
    timestamp = iso(time.time_ns() // 1_000_000)
    try:
        counts = await service.repository.count()
    except StoreUnavailable as error:
        return error_answer(error, status="unhealthy", timestamp=timestamp, uptime=service.uptime)
    reasons = [reason for source in service.health_reasons for reason in source()]
    if counts.sweep_lag_ms >= _LATE_MS:
        reasons.append(f"deadlines are acted on {counts.sweep_lag_ms / 1000:,.0f} s late")
    return _reply(
        200,
        SessionsHealth(
            status="degraded" if reasons else "healthy",
            reasons=reasons or UNSET,
            active_sessions=counts.active,
            expiring_soon=counts.near_expiration,
            timestamp=timestamp,
            uptime=service.uptime,
            invalid_sessions=counts.unreadable or UNSET,
        ),
    )


async def get_session(service: Service, session_id: str) -> Answer:
    """Read a session."""
    return _info(await service.repository.get(session_id))


async def renew_session(service: Service, session_id: str) -> Answer:
    """Renew a session, whether or not it renews by itself."""
    return _info(await service.repository.renew(session_id))


async def session_heartbeat(service: Service, session_id: str) -> Answer:
    """Keep a session alive."""
    return _info(await service.repository.heartbeat(session_id))


async def update_session_timeout(
    service: Service, session_id: str, given: TimeoutSettings
) -> Answer:
    """Change the given timeout settings of a session."""
    change = _change(given, service.policy)
    return _info(await service.repository.change_timeout(session_id, change))


async def send_session_message(service: Service, session_id: str, given: SendMessage) -> Answer:
    """Store a message, which counts as activity."""
    return _reply(
        201, MessageSent.of(*await service.repository.send(session_id, message_of(given)))
    )


def message_of(given: SendMessage) -> NewMessage:
    """Check a message that came by HTTP or by a socket; raises ValidationFailed."""
    return NewMessage(
        content=given.content,
        author_id=_lower(given.author_id),
        metadata=compact_metadata(given.metadata),
        attachments=compact_attachments(given.attachments),
    )


async def get_session_messages(service: Service, session_id: str, given: ReadHistory) -> Answer:
    """Read a conversation, newest first."""
    history = await service.repository.history(
        session_id,
        limit=given.limit,
        before=moment(given.before, "before", up=True),
        after=moment(given.after, "after", up=False),
    )
    return _reply(200, MessagePage.of(history))


async def stream_session_events(
    service: Service, session_id: str, given: StreamSessionEvents, caller: str
) -> EventStream:
    """Follow what happens to a session; ``caller`` is the client's address.

    A client that has seen the session is told of its end, too, if it missed that.
    """
    service.admission.check_held()
    after = _position(given.last_event_id)
    wanted = EventFilter(session_id=session_id)
    subscription = await service.feed.subscribe(wanted, after, caller)
    try:
        await service.repository.get(session_id)
    except ServiceError as error:
        has_gone = isinstance(error, SessionNotFound | SessionExpired)
        if not (has_gone and after and await subscription.has_missed()):
            subscription.close()
            raise
    return EventStream(subscription)


async def stream_events(service: Service, given: StreamEvents, caller: str) -> EventStream:
    """Follow what happens to all sessions, or those that match."""
    wanted = EventFilter(
        user_id=_lower(given.user_id),
        agent_id=_lower(given.agent_id),
        types=frozenset(each.removeprefix("session.") for each in given.type) or None,
    )
    service.admission.check_held()
    after = _position(given.last_event_id)
    return EventStream(await service.feed.subscribe(wanted, after, caller))


async def read_kept_history(service: Service, session_id: str, given: ReadHistory) -> Answer:
    """Read a conversation whose session is over, newest first."""
    history = await service.repository.kept_history(
        session_id,
        limit=given.limit,
        before=moment(given.before, "before", up=True),
        after=moment(given.after, "after", up=False),
    )
    return _reply(200, MessagePage.of(history))


async def erase_history(service: Service, session_id: str) -> Answer:
    """Erase a conversation whose session is over."""
    await service.repository.erase_history(session_id)
    return Answer(200, _ERASED)


async def healthz(_: Service) -> Answer:
    """Tell that the process lives."""
    return _reply(200, ProbeStatus("ok"))


async def readyz(service: Service) -> Answer:
    """Tell whether requests can be served: the store answers, and the service is not stopping."""
    if service.draining:
        raise NotReady
    await service.repository.ping()
    return _reply(200, ProbeStatus("ready"))


def _info(session: Session) -> Answer:
    return _reply(200, SessionInfo.of(session))


def _reply(status: int, body: msgspec.Struct) -> Answer:
    return Answer(status, encode(body))


def _position(last_event_id: str | UnsetType) -> EventId | None:
    return EventId.parse(last_event_id, "lastEventId") if last_event_id else None


def _lower(uuid: str | UnsetType | None) -> str | None:
    return uuid.lower() if isinstance(uuid, str) else None


def _change(given: TimeoutSettings, policy: TimeoutPolicy, path: str = "") -> TimeoutChange:
    return policy.change(
        timeout=given.timeout_minutes,
        auto_renew=given.auto_renew,
        max_duration=given.max_duration_minutes,
        warning=given.warning_threshold_minutes,
        path=path,
    )
