"""From the error tree to HTTP: one table, one shape.

To the tree of ``domain/errors.py`` this adds what can only go wrong in HTTP.
"""

from typing import Any, NamedTuple

from session_service.api.errors import ErrorInfo
from session_service.domain.budgets import HEADER_FIELDS
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
from session_service.web.http.response import Answer, encode


class BadRequest(ServiceError):
    """The bytes are no HTTP request that can be understood."""

    def __init__(self, details: str = "") -> None:
        super().__init__("The request is not valid HTTP", details)


class InvalidJson(ServiceError):
    """The body is not JSON, or is not an object."""

    def __init__(self, details: str) -> None:
        super().__init__("The body must be a JSON object", details)


class RouteNotFound(ServiceError):
    """There is nothing at the path."""

    def __init__(self) -> None:
        super().__init__("There is nothing at this path", "GET /openapi.json lists what there is.")


class MethodNotAllowed(ServiceError):
    """The path does not know the method."""

    def __init__(self, allowed: str) -> None:
        super().__init__("This path does not know the method", f"Allowed: {allowed}")
        self.allowed = allowed


class RequestTimeout(ServiceError):
    """The head or the body of the request did not arrive in time."""

    def __init__(self, part: str, allowed: str) -> None:
        super().__init__(f"The {part} of the request did not arrive in time", f"Allowed: {allowed}")


class SocketRefused(ServiceError):
    """Not a request that Socket.IO can take."""

    def __init__(self, details: str = "It is not as the protocol has it.") -> None:
        super().__init__("Socket.IO cannot take the request", details)


class PayloadTooLarge(ServiceError):
    """The body is larger than any valid one."""

    def __init__(self, limit: int) -> None:
        super().__init__("The body is too large", f"At most {limit:,} bytes are taken.")


class UnsupportedMediaType(ServiceError):
    """The body is not declared to be JSON."""

    def __init__(self) -> None:
        super().__init__("The body must be JSON", "Send Content-Type: application/json")


class ContentCodingNotSupported(ServiceError):
    """The body is compressed."""

    def __init__(self) -> None:
        super().__init__(
            "The body must not be compressed", "Leave out Content-Encoding, or send identity."
        )


class Forbidden(ServiceError):
    """The request comes from a page or for a host that the settings do not allow."""

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message, details)


class RateLimited(ServiceError):
    """The caller has made too many requests; ``retry_after`` is in whole seconds."""

    def __init__(self, details: str, retry_after: int) -> None:
        super().__init__("Too many requests", details)
        self.retry_after = retry_after


class UriTooLong(ServiceError):
    """The request target is longer than the service takes."""

    def __init__(self, limit: int) -> None:
        super().__init__("The request target is too long", f"Allowed: at most {limit:,} bytes.")


class HeadersTooLarge(ServiceError):
    """The headers are larger than the service takes."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            "The headers are too large",
            f"Allowed: at most {limit:,} bytes in all, and {HEADER_FIELDS} fields.",
        )


class CodingNotSupported(ServiceError):
    """The request has a transfer coding other than chunked."""

    def __init__(self) -> None:
        super().__init__("The transfer coding is not supported", "Allowed: chunked.")


class HttpVersionNotSupported(ServiceError):
    """The request line names a version other than HTTP/1.0 or HTTP/1.1."""

    def __init__(self) -> None:
        super().__init__("The HTTP version is not supported", "Allowed: HTTP/1.0 and HTTP/1.1.")


class ExpectationFailed(ServiceError):
    """The Expect header asks for something other than 100-continue."""

    def __init__(self) -> None:
        super().__init__("The Expect header cannot be met", "Allowed: 100-continue")


class NotReady(ServiceError):
    """The service is about to stop."""

    def __init__(self) -> None:
        super().__init__("The service is shutting down", "Ask another node.")


class Overloaded(ServiceError):
    """As much is under way as there may be; waiting in line would not help."""

    def __init__(self) -> None:
        super().__init__("The service is overloaded", "Nothing was done. Try again shortly.")


class InternalError(ServiceError):
    """A defect of ours; the log tells more, to us."""

    def __init__(self) -> None:
        super().__init__(
            "Something went wrong in the service", "The X-Request-ID header finds it in the log."
        )


class ErrorAnswer(NamedTuple):
    """How an error is answered."""

    status: int
    code: str
    description: str
    headers: tuple[tuple[str, str], ...] = ()


_SOON = (("Retry-After", "1"),)

ANSWERS: dict[type[ServiceError], ErrorAnswer] = {
    BadRequest: ErrorAnswer(400, "BAD_REQUEST", "Not a valid HTTP request"),
    SocketRefused: ErrorAnswer(400, "BAD_REQUEST", "Not a request for Socket.IO"),
    ValidationFailed: ErrorAnswer(400, "VALIDATION_ERROR", "A field is missing or out of range"),
    InvalidJson: ErrorAnswer(400, "INVALID_JSON", "The body is not a JSON object"),
    Forbidden: ErrorAnswer(403, "FORBIDDEN", "The origin or the host is not allowed"),
    SessionNotFound: ErrorAnswer(404, "SESSION_NOT_FOUND", "Session not found"),
    ConversationNotFound: ErrorAnswer(404, "SESSION_NOT_FOUND", "Conversation not found"),
    WebhookNotFound: ErrorAnswer(404, "WEBHOOK_NOT_FOUND", "Webhook not found"),
    RouteNotFound: ErrorAnswer(404, "NOT_FOUND", "Unknown path"),
    MethodNotAllowed: ErrorAnswer(405, "METHOD_NOT_ALLOWED", "Unknown method"),
    RequestTimeout: ErrorAnswer(408, "REQUEST_TIMEOUT", "The request did not arrive in time"),
    IdempotencyConflict: ErrorAnswer(
        409, "IDEMPOTENCY_CONFLICT", "The request with this key is being worked on", _SOON
    ),
    TooManyWebhooks: ErrorAnswer(409, "TOO_MANY_WEBHOOKS", "As many as there may be"),
    TooManySessions: ErrorAnswer(409, "TOO_MANY_SESSIONS", "The user has too many live sessions"),
    SessionExpired: ErrorAnswer(410, "SESSION_EXPIRED", "Session has expired"),
    PayloadTooLarge: ErrorAnswer(413, "PAYLOAD_TOO_LARGE", "The body is too large"),
    UriTooLong: ErrorAnswer(414, "URI_TOO_LONG", "The request target is too long"),
    UnsupportedMediaType: ErrorAnswer(
        415, "UNSUPPORTED_MEDIA_TYPE", "The body is not declared as JSON, or is compressed"
    ),
    ContentCodingNotSupported: ErrorAnswer(
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        "The body is compressed",
        (("Accept-Encoding", "identity"),),
    ),
    ExpectationFailed: ErrorAnswer(417, "EXPECTATION_FAILED", "The Expect header cannot be met"),
    RenewalFailed: ErrorAnswer(422, "SESSION_RENEWAL_FAILED", "Maximum duration reached"),
    TooManyMessages: ErrorAnswer(422, "TOO_MANY_MESSAGES", "The session has too many messages"),
    IdempotencyMismatch: ErrorAnswer(
        422, "IDEMPOTENCY_MISMATCH", "The Idempotency-Key was used for another request"
    ),
    RateLimited: ErrorAnswer(429, "RATE_LIMITED", "Too many requests"),
    TooManyKeys: ErrorAnswer(
        429, "RATE_LIMITED", "Too many Idempotency-Keys for the session", (("Retry-After", "3600"),)
    ),
    HeadersTooLarge: ErrorAnswer(431, "HEADERS_TOO_LARGE", "The headers are too large"),
    InternalError: ErrorAnswer(500, "INTERNAL_ERROR", "Internal server error"),
    CodingNotSupported: ErrorAnswer(501, "NOT_IMPLEMENTED", "Unknown transfer coding"),
    RecordUnreadable: ErrorAnswer(503, "RECORD_UNREADABLE", "The stored record cannot be read"),
    StoreUnavailable: ErrorAnswer(503, "STORE_UNAVAILABLE", "The store cannot be reached", _SOON),
    Overloaded: ErrorAnswer(503, "OVERLOADED", "Too much is under way", _SOON),
    NotReady: ErrorAnswer(503, "NOT_READY", "The service is shutting down", _SOON),
    HttpVersionNotSupported: ErrorAnswer(
        505, "HTTP_VERSION_NOT_SUPPORTED", "Not HTTP/1.0 or HTTP/1.1"
    ),
}


def error_body(error: ServiceError) -> dict[str, Any]:
    """Return an error in the one shape of all (contract, "One error shape")."""
    code = ANSWERS[type(error)].code
    return {
        "success": False,
        "error": ErrorInfo(code=code, message=str(error), details=error.details),
    }


def error_answer(error: ServiceError, **more: Any) -> Answer:
    """Write an error as its HTTP answer, with ``more`` members beside the two it always has."""
    kind = ANSWERS[type(error)]
    own: tuple[tuple[str, str], ...] = ()
    if isinstance(error, MethodNotAllowed):
        own = (("Allow", error.allowed),)
    elif isinstance(error, RateLimited):
        own = (("Retry-After", str(error.retry_after)),)
    return Answer(kind.status, encode({**error_body(error), **more}), (*kind.headers, *own))
