"""The errors of HTTP itself, and the table that makes every error a response.

To the tree of ``domain/errors.py`` this adds the errors that only HTTP can have. A new error is a
class here or there and a row in ``ERRORS``; a new code is a row in ``api/errors.py``, too.
"""

from typing import Any, NamedTuple

from session_service.api.errors import ErrorCode, ErrorInfo
from session_service.domain.budgets import HEADER_FIELDS
from session_service.domain.errors import (
    AgentNotFound,
    ConversationNotFound,
    IdempotencyConflict,
    IdempotencyMismatch,
    KeySetUnavailable,
    NotAuthenticated,
    NotPermitted,
    RateLimited,
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
from session_service.web.http.response import JsonResponse, encode


class BadRequest(ServiceError):
    """The bytes are not a valid HTTP request."""

    message = "The request is not valid HTTP"


class InvalidJson(ServiceError):
    """The body is not JSON, or is not an object."""

    message = "The body must be a JSON object"


class RouteNotFound(ServiceError):
    """No route has this path."""

    message = "There is nothing at this path"
    details = "GET /openapi.json lists what there is."


class MethodNotAllowed(ServiceError):
    """The path does not support the method; ``allowed`` lists its methods, e.g. "GET, HEAD"."""

    message = "This path does not know the method"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"Allowed: {allowed}")
        self.allowed = allowed


class RequestTimeout(ServiceError):
    """A part of the request ("head" or "body") did not arrive in time."""

    def __init__(self, part: str, allowed: str) -> None:
        super().__init__(
            f"Allowed: {allowed}", message=f"The {part} of the request did not arrive in time"
        )


class SocketRefused(ServiceError):
    """The request is not a valid request for Socket.IO."""

    message = "Socket.IO cannot take the request"
    details = "It is not as the protocol has it."


class PayloadTooLarge(ServiceError):
    """The body has more than ``limit`` bytes, more than any valid one."""

    message = "The body is too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"At most {limit:,} bytes are taken.")


class UnsupportedMediaType(ServiceError):
    """The body is not declared to be JSON."""

    message = "The body must be JSON"
    details = "Send Content-Type: application/json"


class ContentCodingNotSupported(ServiceError):
    """The body is compressed."""

    message = "The body must not be compressed"
    details = "Leave out Content-Encoding, or send identity."


class Forbidden(ServiceError):
    """The request names a host, or comes from a web page, that the settings do not allow.

    ``refused`` is ``host`` or ``origin``.
    """

    def __init__(self, message: str, details: str, refused: str) -> None:
        super().__init__(details, message=message)
        self.refused = refused


class UriTooLong(ServiceError):
    """The request target has more than ``limit`` bytes."""

    message = "The request target is too long"

    def __init__(self, limit: int) -> None:
        super().__init__(f"Allowed: at most {limit:,} bytes.")


class HeadersTooLarge(ServiceError):
    """The headers have more than ``limit`` bytes, or more than HEADER_FIELDS fields."""

    message = "The headers are too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"Allowed: at most {limit:,} bytes in all, and {HEADER_FIELDS} fields.")


class CodingNotSupported(ServiceError):
    """The request has a transfer coding other than chunked."""

    message = "The transfer coding is not supported"
    details = "Allowed: chunked."


class HttpVersionNotSupported(ServiceError):
    """The request line names a version other than HTTP/1.0 or HTTP/1.1."""

    message = "The HTTP version is not supported"
    details = "Allowed: HTTP/1.0 and HTTP/1.1."


class ExpectationFailed(ServiceError):
    """The Expect header asks for something other than 100-continue."""

    message = "The Expect header cannot be met"
    details = "Allowed: 100-continue"


class NotReady(ServiceError):
    """The service is shutting down."""

    message = "The service is shutting down"
    details = "Ask another node."


class Overloaded(ServiceError):
    """A maximum is reached, of requests, connections, streams or sockets; none is queued."""

    message = "The service is overloaded"
    details = "Nothing was done. Try again shortly."


class InternalError(ServiceError):
    """A defect of the service; the traceback is in the log, under the id of the request."""

    message = "Something went wrong in the service"
    details = "The X-Request-ID header finds it in the log."


class ErrorSpec(NamedTuple):
    """How an error is reported: its code, its text in the API document, and fixed headers.

    Errors ``of_access`` occur only if access control is on.
    """

    code: ErrorCode
    description: str
    headers: tuple[tuple[str, str], ...] = ()
    of_access: bool = False

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return self.code.status


_SOON = (("Retry-After", "1"),)

ERRORS: dict[type[ServiceError], ErrorSpec] = {
    BadRequest: ErrorSpec(ErrorCode.BAD_REQUEST, "Not a valid HTTP request"),
    SocketRefused: ErrorSpec(ErrorCode.BAD_REQUEST, "Not a valid Socket.IO request"),
    ValidationFailed: ErrorSpec(ErrorCode.VALIDATION_ERROR, "A field is missing or out of range"),
    InvalidJson: ErrorSpec(ErrorCode.INVALID_JSON, "The body is not a JSON object"),
    Forbidden: ErrorSpec(ErrorCode.FORBIDDEN, "The origin or the host is not allowed"),
    NotAuthenticated: ErrorSpec(
        ErrorCode.UNAUTHORIZED,
        "The credential is missing or not valid",
        (("WWW-Authenticate", 'Bearer realm="session-service"'),),
        of_access=True,
    ),
    NotPermitted: ErrorSpec(
        ErrorCode.FORBIDDEN, "The credential does not permit this", of_access=True
    ),
    AgentNotFound: ErrorSpec(ErrorCode.AGENT_NOT_FOUND, "Agent not found"),
    SessionNotFound: ErrorSpec(ErrorCode.SESSION_NOT_FOUND, "Session not found"),
    ConversationNotFound: ErrorSpec(ErrorCode.SESSION_NOT_FOUND, "Conversation not found"),
    WebhookNotFound: ErrorSpec(ErrorCode.WEBHOOK_NOT_FOUND, "Webhook not found"),
    RouteNotFound: ErrorSpec(ErrorCode.NOT_FOUND, "Unknown path"),
    MethodNotAllowed: ErrorSpec(
        ErrorCode.METHOD_NOT_ALLOWED, "The path does not support the method"
    ),
    RequestTimeout: ErrorSpec(
        ErrorCode.REQUEST_TIMEOUT, "The head or the body did not arrive in time"
    ),
    IdempotencyConflict: ErrorSpec(
        ErrorCode.IDEMPOTENCY_CONFLICT, "The first request with this key is in progress", _SOON
    ),
    TooManyWebhooks: ErrorSpec(
        ErrorCode.TOO_MANY_WEBHOOKS, "The maximum number of webhooks is registered"
    ),
    TooManySessions: ErrorSpec(ErrorCode.TOO_MANY_SESSIONS, "The user has too many live sessions"),
    SessionExpired: ErrorSpec(ErrorCode.SESSION_EXPIRED, "Session has expired"),
    PayloadTooLarge: ErrorSpec(ErrorCode.PAYLOAD_TOO_LARGE, "The body is too large"),
    UriTooLong: ErrorSpec(ErrorCode.URI_TOO_LONG, "The request target is too long"),
    UnsupportedMediaType: ErrorSpec(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE, "The body is not declared as JSON, or is compressed"
    ),
    ContentCodingNotSupported: ErrorSpec(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        "The body is compressed",
        (("Accept-Encoding", "identity"),),
    ),
    ExpectationFailed: ErrorSpec(ErrorCode.EXPECTATION_FAILED, "The Expect header cannot be met"),
    RenewalFailed: ErrorSpec(
        ErrorCode.SESSION_RENEWAL_FAILED, "The session has reached its maximum duration"
    ),
    TooManyMessages: ErrorSpec(ErrorCode.TOO_MANY_MESSAGES, "The session has too many messages"),
    IdempotencyMismatch: ErrorSpec(
        ErrorCode.IDEMPOTENCY_MISMATCH, "The Idempotency-Key was used for another request"
    ),
    RateLimited: ErrorSpec(ErrorCode.RATE_LIMITED, "Too many requests"),
    TooManyKeys: ErrorSpec(
        ErrorCode.RATE_LIMITED,
        "Too many Idempotency-Keys for the session",
        (("Retry-After", "3600"),),
    ),
    HeadersTooLarge: ErrorSpec(ErrorCode.HEADERS_TOO_LARGE, "The headers are too large"),
    InternalError: ErrorSpec(ErrorCode.INTERNAL_ERROR, "Internal server error"),
    CodingNotSupported: ErrorSpec(ErrorCode.NOT_IMPLEMENTED, "The transfer coding is not chunked"),
    RecordUnreadable: ErrorSpec(ErrorCode.RECORD_UNREADABLE, "The stored record cannot be read"),
    StoreUnavailable: ErrorSpec(ErrorCode.STORE_UNAVAILABLE, "The store cannot be reached", _SOON),
    Overloaded: ErrorSpec(
        ErrorCode.OVERLOADED, "Too many requests are in flight; nothing was done", _SOON
    ),
    NotReady: ErrorSpec(ErrorCode.NOT_READY, "The service is shutting down", _SOON),
    # The contract has no code of its own for it. STORE_UNAVAILABLE would say that a change may have
    # happened, and OVERLOADED that there is too much work; NOT_READY says that nothing happened.
    KeySetUnavailable: ErrorSpec(
        ErrorCode.NOT_READY,
        "The keys that verify tokens are not available",
        _SOON,
        of_access=True,
    ),
    HttpVersionNotSupported: ErrorSpec(
        ErrorCode.HTTP_VERSION_NOT_SUPPORTED, "Not HTTP/1.0 or HTTP/1.1"
    ),
}


def _check_rows() -> None:
    """Fail at import if an error has no row: its first response would fail instead."""
    missing = [error.__name__ for error in ServiceError.__subclasses__() if error not in ERRORS]
    if missing:
        raise TypeError(f"errors without a row in ERRORS: {', '.join(missing)}")


_check_rows()


def error_body(error: ServiceError) -> dict[str, Any]:
    """Return the body of an error response (contract, "One error shape")."""
    return {
        "success": False,
        "error": ErrorInfo(
            code=ERRORS[type(error)].code, message=error.message, details=error.details
        ),
    }


def error_response(error: ServiceError, **extra: Any) -> JsonResponse:
    """Return the response that reports an error; ``extra`` adds members to its body."""
    spec = ERRORS[type(error)]
    own: tuple[tuple[str, str], ...] = ()
    if isinstance(error, MethodNotAllowed):
        own = (("Allow", error.allowed),)
    elif isinstance(error, RateLimited):
        own = (("Retry-After", str(error.retry_after)),)
    return JsonResponse(spec.status, encode({**error_body(error), **extra}), (*spec.headers, *own))
