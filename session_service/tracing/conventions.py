"""Names and rules of OpenTelemetry's semantic conventions.

Those for HTTP and databases are stable; ``session.*``, ``gen_ai.*`` and ``cloudevents.*`` are not
yet. Names with the prefix ``session_service.`` are our own.
"""

from typing import Any

from opentelemetry.trace import Span, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

METHOD = "http.request.method"
RESEND_COUNT = "http.request.resend_count"
STATUS = "http.response.status_code"
ROUTE = "http.route"
SERVER_ADDRESS, SERVER_PORT = "server.address", "server.port"
URL_PATH, URL_SCHEME = "url.path", "url.scheme"
ERROR_TYPE = "error.type"

DB_SYSTEM, DB_NAMESPACE = "db.system.name", "db.namespace"
DB_OPERATION, DB_SUMMARY = "db.operation.name", "db.query.summary"

EVENT_ID, EVENT_TYPE = "cloudevents.event_id", "cloudevents.event_type"
WEBHOOK = "session_service.webhook.id"

LEAST_FAULT = 500  # a status; an error of the client does not make the server's span fail

_SESSION, _CONVERSATION = "session.id", "gen_ai.conversation.id"

PROPAGATOR = TraceContextTextMapPropagator()  # the headers traceparent and tracestate


class SessionNames:
    """The attributes that name a session: ``gen_ai.conversation.id``, too, if that is asked for."""

    def __init__(self, *, with_conversation: bool) -> None:
        self._names = (_SESSION, _CONVERSATION) if with_conversation else (_SESSION,)

    def of(self, session_id: str) -> dict[str, str]:
        """Return the attributes of a session, e.g. ``{"session.id": "3f8a1c52-…"}``."""
        return dict.fromkeys(self._names, session_id)

    def shared_by(self, span: Span) -> dict[str, Any]:
        """Return the attributes of the session that a span has."""
        given = getattr(span, "attributes", None) or {}
        return {name: given[name] for name in self._names if name in given}


def fail(span: Span, kind: str) -> None:
    """Mark a span as failed, with the kind of the error, e.g. ``503`` or ``StoreUnavailable``."""
    span.set_attribute(ERROR_TYPE, kind)
    span.set_status(StatusCode.ERROR)
