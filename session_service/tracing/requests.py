"""Spans of requests: from the head of a request until its response, or its stream, starts."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from opentelemetry.trace import SpanKind, Tracer, format_trace_id

from session_service.logs import TRACE_ID
from session_service.metrics.catalogue import OTHER
from session_service.tracing import conventions as names
from session_service.tracing.conventions import LEAST_FAULT, PROPAGATOR, SessionNames, fail
from session_service.web.http.response import Response
from session_service.web.targets import Target

Handle = Callable[..., Awaitable[Response]]


class TracedRequests:
    """Handles requests with ``handle``, each in a span; calls of the store are its children.

    A valid ``traceparent`` names the parent of the span, and says whether it is sampled.
    """

    def __init__(
        self,
        tracer: Tracer,
        sessions: SessionNames,
        handle: Handle,
        target_of: Callable[[web.BaseRequest], Target],
    ) -> None:
        self._tracer = tracer
        self._sessions = sessions
        self._handle = handle
        self._target_of = target_of

    async def handle(self, request: web.BaseRequest, **options: Any) -> Response:
        """Return the response to a request, as ``handle`` does."""
        target = self._target_of(request)
        method = "HTTP" if target.method == OTHER else target.method
        with self._tracer.start_as_current_span(
            f"{method} {target.route}" if target.route else method,
            PROPAGATOR.extract(request.headers),
            SpanKind.SERVER,
            self._attributes(request, target),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            TRACE_ID.set(format_trace_id(span.get_span_context().trace_id))
            try:
                response = await self._handle(request, **options)
            except BaseException as error:  # the client has gone, or the service stops
                fail(span, type(error).__qualname__)
                raise
            span.set_attribute(names.STATUS, response.status)
            if response.status >= LEAST_FAULT:
                fail(span, str(response.status))
            elif created := _created(response):
                span.set_attributes(self._sessions.of(created))
            return response

    def _attributes(self, request: web.BaseRequest, target: Target) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            names.METHOD: target.method,
            names.URL_PATH: target.path,
            names.URL_SCHEME: request.scheme,
        }
        if target.route:
            attributes[names.ROUTE] = target.route
        if session_id := target.session_id:
            attributes |= self._sessions.of(session_id)
        try:
            host = urlsplit(f"//{request.headers.get('Host', '')}")
            name, port = host.hostname, host.port
        except ValueError:  # such as a port that is no number
            return attributes
        if name:
            attributes[names.SERVER_ADDRESS] = name
        if port:
            attributes[names.SERVER_PORT] = port
        return attributes


def _created(response: Response) -> str:
    """Return the id of a session that was created; "" if there is none."""
    location: str = dict(getattr(response, "headers", ())).get("Location", "")
    kind, _, session_id = location.rpartition("/")
    return session_id if kind == "sessions" else ""
