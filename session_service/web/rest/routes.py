"""The route table: what there is, what it takes, what it answers and how it can fail.

The application is built from it, and so is the API document.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from session_service.api.base import Request, ResponseBody
from session_service.api.events import CloudEvent, StreamEvents, StreamSessionEvents
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
from session_service.api.webhooks import (
    CreateWebhook,
    DeadLetterList,
    ListDeadLetters,
    ReplayDeadLetters,
    Replayed,
    RotateSecret,
    SecretRotated,
    WebhookCreated,
    WebhookInfo,
    WebhookList,
    WebhookRemoved,
)
from session_service.domain.errors import (
    ConversationNotFound,
    IdempotencyConflict,
    IdempotencyMismatch,
    RecordUnreadable,
    RenewalFailed,
    ServiceError,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    TooManyKeys,
    TooManyMessages,
    TooManySessions,
    TooManyWebhooks,
    ValidationFailed,
    WebhookNotFound,
)
from session_service.web.http.errors import (
    BadRequest,
    Forbidden,
    InternalError,
    InvalidJson,
    NotReady,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    RequestTimeout,
    UnsupportedMediaType,
)
from session_service.web.http.response import Answer
from session_service.web.rest import handlers
from session_service.web.rest import webhooks as webhook_handlers
from session_service.web.streaming.sse import EventStream, is_final

# Takes the service, then the path's id, then the body or query, each where the route has it.
Handler = Callable[..., Awaitable[Answer | EventStream]]

IDEMPOTENCY_KEY = "Idempotency-Key"


class Route(NamedTuple):
    """One operation. ``body`` or ``query`` is the type its handler is given.

    ``is_atomic`` where all it does to the store is one script, which then can remember its outcome.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    description: str
    status: int
    response: type[ResponseBody]
    answer: str  # what the success is called
    errors: tuple[type[ServiceError], ...] = ()
    body: type[Request] | None = None
    query: type[Request] | None = None
    streams: bool = False  # the response is what each event of the stream says
    is_atomic: bool = False
    is_limited: bool = False  # CreateLimit counts it

    @property
    def parameter(self) -> str:
        """What the id in its path is called, if it has one."""
        return self.path.partition("{")[2].partition("}")[0]

    @property
    def takes_key(self) -> bool:
        """Whether it heeds the Idempotency-Key header."""
        return self.method in ("POST", "DELETE") and self.path.startswith("/api/")

    @property
    def all_errors(self) -> tuple[type[ServiceError], ...]:
        """Its own errors, and those of every operation of its kind."""
        common: tuple[type[ServiceError], ...] = (BadRequest, Forbidden, InternalError)
        if self.path.startswith("/api/"):
            common += (Overloaded,)
        if self.body:
            common += _BODY_ERRORS
        if self.is_limited:
            common += (RateLimited,)
        if self.takes_key:
            common += (ValidationFailed, IdempotencyMismatch)
            common += () if self.is_atomic else (IdempotencyConflict,)
            common += (TooManyKeys,) if self.method == "POST" and self.parameter else ()
        errors = tuple(dict.fromkeys(self.errors + common))
        return tuple(filter(is_final, errors)) if self.streams else errors


_BODY_ERRORS = (
    InvalidJson,
    ValidationFailed,
    RequestTimeout,
    PayloadTooLarge,
    UnsupportedMediaType,
)
_WEBHOOK = webhook_handlers.WEBHOOKS + "/{webhookId}"
_STREAM = (
    "Last-Event-ID resumes without a gap or a repeat; where the service does not hold all that"
    " followed it any more, an event named reset says so, and what happens from then on follows."
    " A stream that its client does not read, or that is cut by a stop of the service, is to be"
    " resumed in the same way"
)
_SESSION = handlers.SESSIONS + "/{sessionId}"
_CONVERSATION = handlers.CHANNELS + "/{channelId}/messages"
_ONE = (SessionNotFound, SessionExpired, RecordUnreadable, StoreUnavailable)
_ONE_WEBHOOK = (WebhookNotFound, StoreUnavailable)

ROUTES = (
    Route(
        "DELETE",
        _SESSION,
        handlers.end_session,
        "End Session",
        "Explicitly end and delete a conversation session",
        200,
        SessionEnded,
        "Session ended successfully",
        (SessionNotFound, RecordUnreadable, StoreUnavailable),
        is_atomic=True,
    ),
    Route(
        "DELETE",
        handlers.SESSIONS,
        handlers.end_sessions,
        "End Sessions",
        "End the sessions of a user, of an agent, of both, or all=true of them, and delete their"
        " conversations. Works for two seconds at most: repeat it while more is true. Sessions"
        " created before the call do not survive it then, those created since are left alone",
        200,
        SessionsEnded,
        "Sessions ended",
        (ValidationFailed, StoreUnavailable),
        query=EndSessions,
    ),
    Route(
        "POST",
        handlers.SESSIONS,
        handlers.create_session,
        "Create Session",
        "Create a conversation session for a user and an agent",
        201,
        SessionCreated,
        "Session created; Location is its address",
        (TooManySessions, StoreUnavailable),
        body=CreateSession,
        is_atomic=True,
        is_limited=True,
    ),
    Route(
        "GET",
        handlers.SESSIONS,
        handlers.list_sessions,
        "List Sessions",
        "List live sessions, page by page. The order is stable and otherwise unspecified: a session"
        " that lives throughout a paging is met exactly once",
        200,
        SessionList,
        "A page of sessions",
        (ValidationFailed, StoreUnavailable),
        query=ListSessions,
    ),
    Route(
        "GET",
        f"{handlers.SESSIONS}/health",
        handlers.get_sessions_health,
        "Sessions Health",
        "Tell how the service and its store are; 503 is unhealthy",
        200,
        SessionsHealth,
        "The service works",
        (StoreUnavailable,),
    ),
    Route(
        "GET",
        _SESSION,
        handlers.get_session,
        "Get Session",
        "Read a session",
        200,
        SessionInfo,
        "The session",
        _ONE,
    ),
    Route(
        "POST",
        f"{_SESSION}/renew",
        handlers.renew_session,
        "Renew Session",
        "Renew a session, whether or not it renews by itself. Counts as activity",
        200,
        SessionInfo,
        "The session, renewed",
        (*_ONE, RenewalFailed),
        is_atomic=True,
    ),
    Route(
        "POST",
        f"{_SESSION}/heartbeat",
        handlers.session_heartbeat,
        "Session Heartbeat",
        "Keep a session alive: counts as activity, and renews it if autoRenew is set",
        200,
        SessionInfo,
        "The session",
        _ONE,
        is_atomic=True,
    ),
    Route(
        "PATCH",
        f"{_SESSION}/timeout",
        handlers.update_session_timeout,
        "Update Session Timeout",
        "Change the given timeout settings and leave the others as they are; the deadline is worked"
        " out anew from the last renewal",
        200,
        SessionInfo,
        "The session, changed",
        _ONE,
        body=TimeoutSettings,
    ),
    Route(
        "POST",
        f"{_SESSION}/messages",
        handlers.send_session_message,
        "Send Message",
        "Store a message, which counts as activity",
        201,
        MessageSent,
        "The message, and the session after it",
        (*_ONE, TooManyMessages),
        body=SendMessage,
        is_atomic=True,
    ),
    Route(
        "GET",
        f"{_SESSION}/messages",
        handlers.get_session_messages,
        "Get Messages",
        "Read a conversation, newest first. before and after are exclusive and can be combined;"
        " after alone reads the messages that follow it directly",
        200,
        MessagePage,
        "A page of messages",
        (ValidationFailed, *_ONE),
        query=ReadHistory,
    ),
    Route(
        "POST",
        webhook_handlers.WEBHOOKS,
        webhook_handlers.create_webhook,
        "Create Webhook",
        "Register an endpoint that is told of events from now on. The secret is shown this once",
        201,
        WebhookCreated,
        "Webhook registered; Location is its address",
        (TooManyWebhooks, StoreUnavailable),
        body=CreateWebhook,
    ),
    Route(
        "GET",
        webhook_handlers.WEBHOOKS,
        webhook_handlers.list_webhooks,
        "List Webhooks",
        "List the registered endpoints, those of the settings among them, without their secrets",
        200,
        WebhookList,
        "The webhooks",
        (StoreUnavailable,),
    ),
    Route(
        "GET",
        _WEBHOOK,
        webhook_handlers.get_webhook,
        "Get Webhook",
        "Read a webhook, and how much waits for it",
        200,
        WebhookInfo,
        "The webhook",
        _ONE_WEBHOOK,
    ),
    Route(
        "DELETE",
        _WEBHOOK,
        webhook_handlers.delete_webhook,
        "Delete Webhook",
        "Remove a webhook, and all that waits for it",
        200,
        WebhookRemoved,
        "Webhook removed",
        _ONE_WEBHOOK,
    ),
    Route(
        "POST",
        f"{_WEBHOOK}/rotate",
        webhook_handlers.rotate_webhook_secret,
        "Rotate Webhook Secret",
        "Replace the secret of a webhook. For overlapHours, deliveries have two signatures, by the"
        " new secret and by the last one, so that receivers can change over",
        200,
        SecretRotated,
        "The new secret",
        (ValidationFailed, *_ONE_WEBHOOK),
        body=RotateSecret,
    ),
    Route(
        "GET",
        f"{_WEBHOOK}/dead",
        webhook_handlers.list_dead_letters,
        "List Dead Letters",
        "List the deliveries to a webhook that were given up, oldest first",
        200,
        DeadLetterList,
        "A page of dead letters",
        (ValidationFailed, *_ONE_WEBHOOK),
        query=ListDeadLetters,
    ),
    Route(
        "POST",
        f"{_WEBHOOK}/dead/replay",
        webhook_handlers.replay_dead_letters,
        "Replay Dead Letters",
        "Deliver again what was given up: all of it, or the events named. A webhook that was"
        " switched off is switched on",
        200,
        Replayed,
        "They are delivered again",
        _ONE_WEBHOOK,
        body=ReplayDeadLetters,
    ),
    Route(
        "GET",
        f"{_SESSION}/events",
        handlers.stream_session_events,
        "Stream Session Events",
        "Follow what happens to a session, as server-sent events in the order in which it happens;"
        " ends after the event that the session has ended or expired. " + _STREAM,
        200,
        CloudEvent,
        "A stream, until the session ends",
        (ValidationFailed, *_ONE),
        query=StreamSessionEvents,
        streams=True,
    ),
    Route(
        "GET",
        f"{handlers.MESSAGING}/events",
        handlers.stream_events,
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
    Route(
        "GET",
        _CONVERSATION,
        handlers.read_kept_history,
        "Get Kept Messages",
        "Read the conversation of a session that has ended or run out, where and as long as the"
        " service keeps it; of one that lives, the session has it",
        200,
        MessagePage,
        "A page of messages",
        (ValidationFailed, ConversationNotFound, RecordUnreadable, StoreUnavailable),
        query=ReadHistory,
    ),
    Route(
        "DELETE",
        _CONVERSATION,
        handlers.erase_history,
        "Erase Messages",
        "Erase the conversation of a session that has ended or run out, at once",
        200,
        ConversationErased,
        "Conversation erased",
        (ConversationNotFound, StoreUnavailable),
        is_atomic=True,
    ),
    Route(
        "GET",
        "/healthz",
        handlers.healthz,
        "Liveness",
        "Tell that the process lives",
        200,
        ProbeStatus,
        "It does",
    ),
    Route(
        "GET",
        "/readyz",
        handlers.readyz,
        "Readiness",
        "Tell whether requests can be served",
        200,
        ProbeStatus,
        "They can",
        (StoreUnavailable, NotReady),
    ),
)
