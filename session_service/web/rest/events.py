"""Streams of events: their handlers and routes."""

from msgspec import UnsetType

from session_service.api.events import CloudEvent, StreamEvents, StreamSessionEvents
from session_service.domain.errors import (
    ServiceError,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    ValidationFailed,
)
from session_service.domain.events import EventFilter, EventId
from session_service.web.http.decoding import lower
from session_service.web.http.state import AppState
from session_service.web.rest.route import MESSAGING, Route
from session_service.web.rest.sessions import SESSION, SESSION_ERRORS
from session_service.web.streaming.sse import EventStream

_STREAM = (
    "Last-Event-ID resumes without a gap or a repeat; where the service does not hold all that"
    " followed it any more, an event named reset says so, and what happens from then on follows."
    " A stream that its client does not read, or that is cut by a stop of the service, is to be"
    " resumed in the same way"
)


async def stream_session_events(
    service: AppState, session_id: str, given: StreamSessionEvents, caller: str
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


async def stream_events(service: AppState, given: StreamEvents, caller: str) -> EventStream:
    """Follow what happens to all sessions, or those that match."""
    wanted = EventFilter(
        user_id=lower(given.user_id),
        agent_id=lower(given.agent_id),
        types=frozenset(each.removeprefix("session.") for each in given.type) or None,
    )
    service.admission.check_held()
    after = _position(given.last_event_id)
    return EventStream(await service.feed.subscribe(wanted, after, caller))


def _position(last_event_id: str | UnsetType) -> EventId | None:
    return EventId.parse(last_event_id, "lastEventId") if last_event_id else None


ROUTES = (
    Route(
        "GET",
        f"{SESSION}/events",
        stream_session_events,
        "Stream Session Events",
        "Follow what happens to a session, as server-sent events in the order in which it happens;"
        " ends after the event that the session has ended or expired. " + _STREAM,
        200,
        CloudEvent,
        "A stream, until the session ends",
        (ValidationFailed, *SESSION_ERRORS),
        query=StreamSessionEvents,
        streams=True,
    ),
    Route(
        "GET",
        f"{MESSAGING}/events",
        stream_events,
        "Stream Events",
        "Follow what happens to all sessions, or those that match, as server-sent events in one"
        " order. " + _STREAM,
        200,
        CloudEvent,
        "A stream without end",
        (ValidationFailed, StoreUnavailable),
        query=StreamEvents,
        streams=True,
    ),
)
