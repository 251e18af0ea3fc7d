"""The log lines of requests: of those that failed or were slow or, with ACCESS_LOG, of all.

A failure is logged at most once a second for each method, route and status, with a count, e.g.
``{"event": "request failed", "count": 1, "method": "GET", "route": "/api/messaging/sessions",
"status": 503, "ms": 2001.37, "code": "NOT_READY", "credential_kind": "key", "credential_id":
"7Hq2Xw9k", "credential_name": "billing", …}``. docs/operating.md, "Lines of requests", lists the
fields. No line has a text from a client, apart from the request id.
"""

import logging
import math
import time
from typing import Any

from session_service.domain.credentials import Credential
from session_service.domain.errors import (
    RateLimited,
    ServiceError,
    StoreUnavailable,
    TooManySessions,
)
from session_service.logs import EventLog, Throttled
from session_service.web.http.context import RequestContext
from session_service.web.http.errors import ERRORS, Forbidden, InternalError, Overloaded
from session_service.web.http.response import BaseResponse, Response
from session_service.web.http.state import AppState
from session_service.web.streaming.engineio import EngineIoResponse
from session_service.web.streaming.sse import EventStreamResponse
from session_service.web.targets import Target

LEAST_FAILURE, _LEAST_FAULT = 400, 500  # statuses; below the second the client is at fault
_SOCKET, _ACKNOWLEDGED = "socket.io", 200  # the method and the status of an event from a socket
_LONG = (EventStreamResponse, EngineIoResponse)  # their requests may last for hours

_log = logging.getLogger("session_service.requests")
_access = EventLog("session_service.access_log")


class RequestLog:
    """Writes the lines of requests: call ``write`` for one that failed or took ``least_seconds``.

    Refusals are also counted there, for metrics.
    """

    def __init__(self, state: AppState) -> None:
        self._refused = state.admission.refused
        self._measures = state.measures
        self._logs_all = state.access_log or _log.isEnabledFor(logging.DEBUG)
        self._slow_seconds = state.slow_seconds or math.inf
        self.least_seconds = 0.0 if self._logs_all else self._slow_seconds
        self._lines: dict[tuple[str, str, int], Throttled] = {}

    def write(
        self,
        target: Target,
        context: RequestContext,
        response: Response,
        seconds: float,
        error: Exception | None = None,
    ) -> Response:
        """Write the lines of a request; return the response, which may write one at its end.

        An ``error`` that is no ServiceError is a defect.
        """
        status = status_of(error) if error else response.status
        fields = _fields(target.method, target.route, status, seconds, error)
        self._write(fields, context, seconds, error)
        if self._logs_all:
            fields |= {"path": target.path, "address": context.address}
            _access.write("request", fields)
            if isinstance(response, _LONG):
                return _LoggedStream(response, fields)
        return response

    def write_event(
        self, name: str, context: RequestContext, seconds: float, error: Exception | None = None
    ) -> None:
        """Write the lines of an event that a socket sent, e.g. ``message``, as of a request."""
        if error is None and seconds < self.least_seconds:
            return
        status = status_of(error) if error else _ACKNOWLEDGED
        fields = _fields(_SOCKET, name, status, seconds, error)
        self._write(fields, context, seconds, error)
        if self._logs_all:
            _access.write("request", fields | {"address": context.address})

    def _write(
        self,
        fields: dict[str, Any],
        context: RequestContext,
        seconds: float,
        error: Exception | None,
    ) -> None:
        """Add the credential to the fields, and write the line of a failed or slow request."""
        credential = context.credential
        if credential is not Credential.OPEN:
            fields["credential_kind"] = credential.kind.value
            fields["credential_id"] = credential.id
            fields["credential_name"] = credential.name
        if fields["status"] >= LEAST_FAILURE:
            self._write_failure(error, fields)
        elif seconds >= self._slow_seconds:
            self._line("request is slow", logging.WARNING, fields)

    def _write_failure(self, error: Exception | None, fields: dict[str, Any]) -> None:
        refused, measures = self._refused, self._measures
        match error:
            case StoreUnavailable():
                refused.store.log(reason=error.reason, **fields)
                return
            case RateLimited():
                (refused.rates if error.setting else refused.creations).log(**fields)
                by = error.setting.removeprefix("RATE_LIMIT_").lower() or "creations"
                measures.limited[by].add()
                return
            case Overloaded():
                refused.overload.log(**fields)
                return
            case TooManySessions():
                measures.limited["sessions"].add()
            case Forbidden():
                measures.refused[error.refused].add()
        if error is not None and not isinstance(error, ServiceError):
            _log.error("defect", exc_info=error, extra=fields)
        elif fields["status"] >= _LEAST_FAULT:
            self._line("request failed", logging.WARNING, fields)
        else:
            self._line("request refused", logging.INFO, fields)

    def _line(self, message: str, level: int, fields: dict[str, Any]) -> None:
        key = fields["method"], fields["route"], fields["status"]
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Throttled(_log, message, level)
        line.log(**fields)


class _LoggedStream:
    """The response to a request that may last for hours, of which the end is logged, too."""

    def __init__(self, response: BaseResponse, fields: dict[str, Any]) -> None:
        self._response = response
        self._fields = fields
        self._started = time.perf_counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)

    async def write_eof(self) -> None:
        """Send the response, and write the line."""
        try:
            await self._response.write()
        finally:
            seconds = time.perf_counter() - self._started
            _access.write("request ended", self._fields | {"ms": _ms(seconds)})


def status_of(error: Exception) -> int:
    """Return the status of an error, also if a stream reports it with 200."""
    return ERRORS[type(error) if isinstance(error, ServiceError) else InternalError].status


def _fields(
    method: str, route: str, status: int, seconds: float, error: Exception | None
) -> dict[str, Any]:
    fields = {"method": method, "route": route, "status": status, "ms": _ms(seconds)}
    if isinstance(error, ServiceError):
        fields["code"] = ERRORS[type(error)].code.value
    return fields


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
