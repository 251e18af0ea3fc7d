"""The exceptions of the client: one class for each error code, and those without a response.

::

    SessionServiceError
    ├── ConnectionFailed        no connection, or it broke before the response was complete
    ├── RequestTimedOut         no response within the timeout
    ├── UnexpectedResponse      a response that is not the service's, such as a proxy's page
    └── ApiError                the service refused the request, or could not serve it
        └── SessionNotFound, SessionExpired, RateLimited, …

An exception never has a credential in its text or attributes.
"""

from typing import ClassVar

from session_service.api.errors import ErrorCode


class SessionServiceError(Exception):
    """Any failure of a call."""


class ConnectionFailed(SessionServiceError):
    """There is no connection to the service, or it broke before the response was complete."""


class RequestTimedOut(SessionServiceError):
    """The service did not respond in time."""


class UnexpectedResponse(SessionServiceError):
    """The response is not one of the service: perhaps a proxy made it, or the URL is wrong."""

    def __init__(
        self,
        message: str,
        status: int,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after


class ApiError(SessionServiceError):
    """An error that the service returned, e.g. ``SESSION_NOT_FOUND: Session not found (…)``.

    ``code`` is for programs; ``message`` and ``details`` are for people and may change. The log of
    the service has the ``request_id``. ``retry_after`` is in seconds, if the response has it. A
    code that is newer than this client raises ``ApiError`` itself.
    """

    error_code: ClassVar[ErrorCode | None] = None

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int,
        details: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        text = f"{code}: {message}"
        if details:
            text += f" ({details})"
        if request_id:
            text += f" [request {request_id}]"
        super().__init__(text)
        self.code = code
        self.message = message
        self.details = details
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after

    def __init_subclass__(cls, code: ErrorCode) -> None:
        """Register the class for its code."""
        cls.error_code = code
        BY_CODE[code] = cls


BY_CODE: dict[str, type[ApiError]] = {}


class BadRequest(ApiError, code=ErrorCode.BAD_REQUEST):
    """The request is not valid HTTP."""


class InvalidJson(ApiError, code=ErrorCode.INVALID_JSON):
    """The body is not JSON, or is not an object."""


class ValidationFailed(ApiError, code=ErrorCode.VALIDATION_ERROR):
    """A field is missing, has the wrong type or is out of range; ``details`` names it."""


class Unauthorized(ApiError, code=ErrorCode.UNAUTHORIZED):
    """The credential is missing, invalid or expired."""


class Forbidden(ApiError, code=ErrorCode.FORBIDDEN):
    """The credential lacks a scope, or may not act for this user or agent."""


class NotFound(ApiError, code=ErrorCode.NOT_FOUND):
    """No route has this path, or the conversation is not kept."""


class AgentNotFound(ApiError, code=ErrorCode.AGENT_NOT_FOUND):
    """Sessions with this agent are not allowed."""


class SessionNotFound(ApiError, code=ErrorCode.SESSION_NOT_FOUND):
    """The session never existed, was ended, or its retention is over."""


class WebhookNotFound(ApiError, code=ErrorCode.WEBHOOK_NOT_FOUND):
    """The webhook was never registered, or was removed."""


class MethodNotAllowed(ApiError, code=ErrorCode.METHOD_NOT_ALLOWED):
    """The path does not support the method."""


class RequestTooSlow(ApiError, code=ErrorCode.REQUEST_TIMEOUT):
    """The request arrived too slowly."""


class IdempotencyConflict(ApiError, code=ErrorCode.IDEMPOTENCY_CONFLICT):
    """The first request with this ``Idempotency-Key`` is in progress."""


class TooManySessions(ApiError, code=ErrorCode.TOO_MANY_SESSIONS):
    """The user has the maximum number of live sessions."""


class TooManyWebhooks(ApiError, code=ErrorCode.TOO_MANY_WEBHOOKS):
    """The maximum number of webhooks is registered."""


class SessionExpired(ApiError, code=ErrorCode.SESSION_EXPIRED):
    """The session expired, and is within its retention."""


class PayloadTooLarge(ApiError, code=ErrorCode.PAYLOAD_TOO_LARGE):
    """The body is too large."""


class UriTooLong(ApiError, code=ErrorCode.URI_TOO_LONG):
    """The path and query are too long."""


class UnsupportedMediaType(ApiError, code=ErrorCode.UNSUPPORTED_MEDIA_TYPE):
    """The body is not declared as JSON."""


class ExpectationFailed(ApiError, code=ErrorCode.EXPECTATION_FAILED):
    """``Expect`` has a value other than ``100-continue``."""


class IdempotencyMismatch(ApiError, code=ErrorCode.IDEMPOTENCY_MISMATCH):
    """The ``Idempotency-Key`` was used for another request."""


class SessionRenewalFailed(ApiError, code=ErrorCode.SESSION_RENEWAL_FAILED):
    """The session has reached its maximum duration."""


class TooManyMessages(ApiError, code=ErrorCode.TOO_MANY_MESSAGES):
    """The session has the maximum number of messages."""


class RateLimited(ApiError, code=ErrorCode.RATE_LIMITED):
    """There are too many requests; ``retry_after`` is when to send the next one."""


class HeadersTooLarge(ApiError, code=ErrorCode.HEADERS_TOO_LARGE):
    """The headers are too large."""


class InternalError(ApiError, code=ErrorCode.INTERNAL_ERROR):
    """The service has a defect; its log has the request id and the traceback."""


class NotSupported(ApiError, code=ErrorCode.NOT_IMPLEMENTED):
    """The transfer coding is not supported."""


class NotReady(ApiError, code=ErrorCode.NOT_READY):
    """The service stops, or cannot verify a JWT yet."""


class Overloaded(ApiError, code=ErrorCode.OVERLOADED):
    """Too many requests are in flight; nothing was done."""


class RecordUnreadable(ApiError, code=ErrorCode.RECORD_UNREADABLE):
    """The stored record is damaged, or a newer version wrote it."""


class StoreUnavailable(ApiError, code=ErrorCode.STORE_UNAVAILABLE):
    """The store did not respond in time; a change may have happened."""


class HttpVersionNotSupported(ApiError, code=ErrorCode.HTTP_VERSION_NOT_SUPPORTED):
    """The HTTP version is not supported."""
