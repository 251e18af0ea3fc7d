"""From the error tree to HTTP: one table, one shape.

To the tree of ``domain/errors.py`` this adds what can only go wrong in HTTP.
"""

from typing import Any, NamedTuple

from session_service.domain.errors import (
    ConversationNotFound,
    IdempotencyConflict,
    IdempotencyMismatch,
    RenewalFailed,
    ServiceError,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    TooManyWebhooks,
    ValidationFailed,
    WebhookNotFound,
)
from session_service.web.answers import Answer, encode
from session_service.web.responses import ErrorInfo


class BadRequest(ServiceError):  # noqa: N818 - the tree is named by what happened
    """The bytes are no HTTP request that can be understood."""

    def __init__(self, details: str = "") -> None:
        super().__init__("The request is not valid HTTP", details)


class InvalidJson(ServiceError):  # noqa: N818
    """The body is not JSON, or is not an object."""

    def __init__(self, details: str) -> None:
        super().__init__("The body must be a JSON object", details)


class RouteNotFound(ServiceError):  # noqa: N818
    """There is nothing at the path."""

    def __init__(self) -> None:
        super().__init__("There is nothing at this path", "GET /openapi.json lists what there is.")


class MethodNotAllowed(ServiceError):  # noqa: N818
    """The path does not know the method."""

    def __init__(self, allowed: str) -> None:
        super().__init__("This path does not know the method", f"Allowed: {allowed}")
        self.allowed = allowed


class RequestTimeout(ServiceError):  # noqa: N818
    """The body did not arrive in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__("The body did not arrive in time", f"It must within {seconds:g} seconds.")


class SocketRefused(ServiceError):  # noqa: N818
    """Not a request that Socket.IO can take."""

    def __init__(self) -> None:
        super().__init__(
            "Socket.IO cannot take the request",
            "It takes text, from clients of version 4 and origins allowed, for a socket that"
            " is open in this process; transports: ['websocket'] keeps it in one.",
        )


class PayloadTooLarge(ServiceError):  # noqa: N818
    """The body is larger than any valid one."""

    def __init__(self, limit: int) -> None:
        super().__init__("The body is too large", f"At most {limit:,} bytes are taken.")


class UnsupportedMediaType(ServiceError):  # noqa: N818
    """The body is not declared to be JSON."""

    def __init__(self) -> None:
        super().__init__("The body must be JSON", "Send Content-Type: application/json")


class ExpectationFailed(ServiceError):  # noqa: N818
    """The Expect header asks for something other than 100-continue."""

    def __init__(self) -> None:
        super().__init__("The Expect header cannot be met", "Allowed: 100-continue")


class NotReady(ServiceError):  # noqa: N818
    """The service is about to stop."""

    def __init__(self) -> None:
        super().__init__("The service is shutting down", "Ask another node.")


class Overloaded(ServiceError):  # noqa: N818
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
    SessionNotFound: ErrorAnswer(404, "SESSION_NOT_FOUND", "Session not found"),
    ConversationNotFound: ErrorAnswer(404, "SESSION_NOT_FOUND", "Conversation not found"),
    WebhookNotFound: ErrorAnswer(404, "WEBHOOK_NOT_FOUND", "Webhook not found"),
    RouteNotFound: ErrorAnswer(404, "NOT_FOUND", "Unknown path"),
    MethodNotAllowed: ErrorAnswer(405, "METHOD_NOT_ALLOWED", "Unknown method"),
    RequestTimeout: ErrorAnswer(408, "REQUEST_TIMEOUT", "The body did not arrive in time"),
    IdempotencyConflict: ErrorAnswer(
        409, "IDEMPOTENCY_CONFLICT", "The request with this key is being worked on", _SOON
    ),
    TooManyWebhooks: ErrorAnswer(409, "TOO_MANY_WEBHOOKS", "As many as there may be"),
    SessionExpired: ErrorAnswer(410, "SESSION_EXPIRED", "Session has expired"),
    PayloadTooLarge: ErrorAnswer(413, "PAYLOAD_TOO_LARGE", "The body is too large"),
    UnsupportedMediaType: ErrorAnswer(415, "UNSUPPORTED_MEDIA_TYPE", "The body is not JSON"),
    ExpectationFailed: ErrorAnswer(417, "EXPECTATION_FAILED", "The Expect header cannot be met"),
    RenewalFailed: ErrorAnswer(422, "SESSION_RENEWAL_FAILED", "Maximum duration reached"),
    IdempotencyMismatch: ErrorAnswer(
        422, "IDEMPOTENCY_MISMATCH", "The Idempotency-Key was used for another request"
    ),
    InternalError: ErrorAnswer(500, "INTERNAL_ERROR", "Internal server error"),
    StoreUnavailable: ErrorAnswer(503, "STORE_UNAVAILABLE", "The store cannot be reached", _SOON),
    Overloaded: ErrorAnswer(503, "OVERLOADED", "Too much is under way", _SOON),
    NotReady: ErrorAnswer(503, "NOT_READY", "The service is shutting down", _SOON),
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
    allow = (("Allow", error.allowed),) if isinstance(error, MethodNotAllowed) else ()
    return Answer(
        kind.status,
        encode({**error_body(error), **more}),
        (*kind.headers, *allow),
    )
