"""Spans of the events that clients of Socket.IO emit, such as ``join`` and ``message``.

A connection lasts for hours, and the span of its request ends when it begins. So each event is the
root of a trace of its own.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer, format_trace_id

from session_service.api.errors import ErrorCode
from session_service.domain.errors import ServiceError
from session_service.domain.ids import is_uuid
from session_service.logs import TRACE_ID
from session_service.tracing.conventions import ERROR_TYPE, LEAST_FAULT, SessionNames, fail
from session_service.web.streaming.messages import session_id_of

_FAULTS = {code.value for code in ErrorCode if code.status >= LEAST_FAULT}

EventHandler = Callable[..., Awaitable[dict[str, Any]]]


class TracedEvent:
    """Handles the event ``name`` with ``handle``, in a span."""

    def __init__(
        self, tracer: Tracer, sessions: SessionNames, name: str, handle: EventHandler
    ) -> None:
        self._tracer = tracer
        self._sessions = sessions
        self._name = f"socket.io {name}"
        self._handle = handle

    async def handle(self, socket: str, payload: object = None, *more: object) -> dict[str, Any]:
        """Return the acknowledgement, as ``handle`` does."""
        with self._tracer.start_as_current_span(
            self._name, Context(), SpanKind.SERVER, self._session_in(payload)
        ) as span:
            TRACE_ID.set(format_trace_id(span.get_span_context().trace_id))
            acknowledgement = await self._handle(socket, payload, *more)
            if not acknowledgement["success"]:
                code = acknowledgement["error"]["code"]
                span.set_attribute(ERROR_TYPE, code)
                if code in _FAULTS:
                    fail(span, code)
            return acknowledgement

    def _session_in(self, payload: object) -> dict[str, str]:
        """Return the attributes of the session that a payload names, perhaps in another one."""
        if isinstance(payload, dict) and isinstance(payload.get("payload"), dict):
            payload = payload["payload"]
        with suppress(ServiceError):
            session_id = session_id_of(payload)
            return self._sessions.of(session_id) if is_uuid(session_id) else {}
        return {}
