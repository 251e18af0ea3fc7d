"""Handlers and routes of event streams (server-sent events)."""

from msgspec import UnsetType

from session_service.api.events import CloudEvent, StreamEvents, StreamSessionEvents
from session_service.audit import AuditEvent
from session_service.domain.credentials import Permission
from session_service.domain.errors import (
    ServiceError,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    ValidationFailed,
)
from session_service.domain.events import EventFilter, EventId
from session_service.web.http.context import RequestContext
from session_service.web.http.fields import lower
from session_service.web.rest.route import MESSAGING, Route, Tag
from session_service.web.rest.sessions import SESSION, SESSION_ERRORS
from session_service.web.streaming.sse import EventStreamResponse


async def stream_session_events(
    context: RequestContext, session_id: str, query: StreamSessionEvents
) -> EventStreamResponse:
    """Stream the events of a session, in the order in which they happen.

    The format is server-sent events. The stream ends after the event that the session has ended or
    expired. ``Last-Event-ID`` resumes it without a gap or a repeat. If the service no longer holds
    every event since then, an event named ``reset`` says so, and the stream goes on with new
    events. Resume in the same way if the service stops, or cuts a stream whose client does not
    read it.
    """
    context.state.admission.check_held()
    after = _position(query.last_event_id)
    credential = context.credential
    event_filter = EventFilter(session_id=session_id).limited_to(credential)
    subscription = await context.state.feed.subscribe(event_filter, after, context.address)
    try:
        await context.sessions.get(session_id)
    except ServiceError as error:
        # A client that resumes may have missed the end of the session: it still receives that.
        has_gone = isinstance(error, SessionNotFound | SessionExpired)
        may_resume = after is not None and credential.session in (None, session_id)
        if not (has_gone and may_resume and await subscription.has_missed()):
            subscription.close()
            raise
    return EventStreamResponse(subscription, context)


async def stream_events(context: RequestContext, query: StreamEvents) -> EventStreamResponse:
    """Stream the events of all sessions, or of those that match, in one order.

    The format is server-sent events. ``Last-Event-ID`` resumes the stream without a gap or a
    repeat. If the service no longer holds every event since then, an event named ``reset`` says so,
    and the stream goes on with new events. Resume in the same way if the service stops, or cuts a
    stream whose client does not read it.
    """
    event_filter = EventFilter(
        user_id=lower(query.user_id),
        agent_id=lower(query.agent_id),
        types=frozenset(each.removeprefix("session.") for each in query.type) or None,
    ).limited_to(context.credential)
    context.state.admission.check_held()
    after = _position(query.last_event_id)
    subscription = await context.state.feed.subscribe(event_filter, after, context.address)
    if not context.credential.is_personal:
        context.audit(
            AuditEvent.EVENTS_STREAMED, user=event_filter.user_id, agent=event_filter.agent_id
        )
    return EventStreamResponse(subscription, context)


def _position(last_event_id: str | UnsetType) -> EventId | None:
    """Return the event after which to resume, e.g. ``1764000000000-ff-1``, or None to start now."""
    return EventId.parse(last_event_id, "lastEventId") if last_event_id else None


ROUTES = (
    Route(
        method="GET",
        path=f"{SESSION}/events",
        handler=stream_session_events,
        tag=Tag.EVENTS,
        access=Permission.EVENTS_READ,
        query=StreamSessionEvents,
        response=CloudEvent,
        success="A stream, until the session ends",
        errors=(ValidationFailed, *SESSION_ERRORS),
        streams=True,
    ),
    Route(
        method="GET",
        path=f"{MESSAGING}/events",
        handler=stream_events,
        tag=Tag.EVENTS,
        access=Permission.EVENTS_READ,
        access_note="Streams only events of sessions that the caller may see.",
        query=StreamEvents,
        response=CloudEvent,
        success="A stream without end",
        errors=(ValidationFailed, StoreUnavailable),
        streams=True,
    ),
)
