"""Errors: the codes, the HTTP status of each, and the body that every error response has."""

from enum import StrEnum
from typing import Annotated, Self

from msgspec import Meta

from session_service.api.base import ResponseBody


class ErrorCode(StrEnum):
    """A machine-readable reason, such as ``SESSION_NOT_FOUND``; each has one HTTP ``status``.

    Clients decide by the code: messages and details are for people and may change.
    """

    status: int

    def __new__(cls, value: str, status: int) -> Self:
        """Make a member that is equal to its name and knows its HTTP status."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.status = status
        return code

    BAD_REQUEST = "BAD_REQUEST", 400
    INVALID_JSON = "INVALID_JSON", 400
    VALIDATION_ERROR = "VALIDATION_ERROR", 400
    UNAUTHORIZED = "UNAUTHORIZED", 401
    FORBIDDEN = "FORBIDDEN", 403
    NOT_FOUND = "NOT_FOUND", 404
    AGENT_NOT_FOUND = "AGENT_NOT_FOUND", 404
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND", 404
    WEBHOOK_NOT_FOUND = "WEBHOOK_NOT_FOUND", 404
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED", 405
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT", 408
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT", 409
    TOO_MANY_SESSIONS = "TOO_MANY_SESSIONS", 409
    TOO_MANY_WEBHOOKS = "TOO_MANY_WEBHOOKS", 409
    SESSION_EXPIRED = "SESSION_EXPIRED", 410
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE", 413
    URI_TOO_LONG = "URI_TOO_LONG", 414
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE", 415
    EXPECTATION_FAILED = "EXPECTATION_FAILED", 417
    IDEMPOTENCY_MISMATCH = "IDEMPOTENCY_MISMATCH", 422
    SESSION_RENEWAL_FAILED = "SESSION_RENEWAL_FAILED", 422
    TOO_MANY_MESSAGES = "TOO_MANY_MESSAGES", 422
    RATE_LIMITED = "RATE_LIMITED", 429
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE", 431
    INTERNAL_ERROR = "INTERNAL_ERROR", 500
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED", 501
    NOT_READY = "NOT_READY", 503
    OVERLOADED = "OVERLOADED", 503
    RECORD_UNREADABLE = "RECORD_UNREADABLE", 503
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE", 503
    HTTP_VERSION_NOT_SUPPORTED = "HTTP_VERSION_NOT_SUPPORTED", 505


class ErrorInfo(ResponseBody):
    """The code of an error, and its texts for people."""

    code: Annotated[str, Meta(description="Error code")]
    message: Annotated[str, Meta(description="Error message")]
    details: Annotated[str, Meta(description="Detailed error information")]


class Error(ResponseBody, kw_only=True):
    """The body of every error response."""

    success: Annotated[bool, Meta(examples=[False])]
    error: ErrorInfo
