"""What can go wrong, as a caller of the service knows it.

    ServiceError
    ├── ValidationFailed      a field is missing, has the wrong type or is out of range
    ├── SessionNotFound       never existed, was ended, or its retention is over
    ├── ConversationNotFound  none is kept: the session lives or never was, or its time is over
    ├── SessionExpired        ran out, and is still within its retention
    ├── RecordUnreadable      the stored record is damaged, or of a newer format
    ├── TooManySessions       the user has as many live sessions as SESSION_MAX_PER_USER allows
    ├── TooManyMessages       the session has as many messages as SESSION_MAX_MESSAGES allows
    ├── RenewalFailed         nothing is left to gain: the maximum duration is reached
    ├── IdempotencyMismatch   the key was used for another request
    ├── IdempotencyConflict   the request with this key is being worked on
    ├── TooManyKeys           the session had as many Idempotency-Keys today as it may have
    ├── WebhookNotFound       never registered, or removed
    ├── TooManyWebhooks       as many are registered as there may be
    └── StoreUnavailable      the store did not answer in time; a change may have happened

How each becomes an HTTP answer is decided in ``web/errors.py`` alone.
"""

from session_service.domain.times import iso


class ServiceError(Exception):
    """The root of every error a caller is told about.

    ``str(error)`` is for a person; ``details`` adds what helps to mend the call.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class ValidationFailed(ServiceError):
    """A field's value is not allowed; the message names the field and what is."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}", details=field)


class SessionNotFound(ServiceError):
    """There is no such session, or none the caller may see: one answer, no oracle."""

    def __init__(self) -> None:
        super().__init__(
            "Session not found",
            "It never existed, was ended, or ran out too long ago.",
        )


class ConversationNotFound(ServiceError):
    """No conversation of the session is kept: one answer, no oracle."""

    def __init__(self) -> None:
        super().__init__(
            "Conversation not found",
            "It is kept here once its session is over, for as long as the service is set to.",
        )


class SessionExpired(ServiceError):
    """The session expired; ``expires_at`` is its deadline in epoch milliseconds."""

    def __init__(self, expires_at: int) -> None:
        super().__init__(
            "Session has expired",
            f"Its expiresAt was {iso(expires_at)}. Create a new session to go on.",
        )
        self.expires_at = expires_at


class RecordUnreadable(ServiceError):
    """The stored record is damaged or was written by a newer version; it is left untouched."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(
            "The stored record cannot be read by this node",
            "It is damaged, or a newer version of the service wrote it. It was left as it is.",
        )
        self.reason = reason  # for the log, never for the caller


class TooManySessions(ServiceError):
    """The user has as many live sessions as one user may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            "Too many sessions",
            f"A user can have at most {limit:,} live sessions. End one, or wait until one expires.",
        )


class TooManyMessages(ServiceError):
    """The session has as many messages as one session may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            "Too many messages",
            f"A session can have at most {limit:,} messages. Create a new session to go on.",
        )


class RenewalFailed(ServiceError):
    """The session already lasts until its maximum duration."""

    def __init__(self, max_duration_minutes: float) -> None:
        super().__init__(
            "Session cannot be renewed: it has reached its maximum duration",
            f"maxDurationMinutes is {max_duration_minutes:g}, counted from createdAt;"
            " raise it, or create a new session.",
        )


class IdempotencyMismatch(ServiceError):
    """The Idempotency-Key was used for another request."""

    def __init__(self) -> None:
        super().__init__(
            "The Idempotency-Key was used for another request",
            "A key stands for one method, path, query and body for 24 hours. Use a new one.",
        )


class IdempotencyConflict(ServiceError):
    """The first request with this Idempotency-Key has not been answered yet."""

    def __init__(self) -> None:
        super().__init__(
            "The request with this Idempotency-Key is still being worked on",
            "Try again shortly, to get its answer.",
        )


class TooManyKeys(ServiceError):
    """The session had as many requests with an Idempotency-Key in a day as it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            "Too many Idempotency-Keys for one session",
            f"Allowed: {limit:,} in 24 hours. Nothing was done. Send the request without a key.",
        )


class WebhookNotFound(ServiceError):
    """There is no such webhook."""

    def __init__(self) -> None:
        super().__init__("Webhook not found", "It was never registered, or was removed.")


class TooManyWebhooks(ServiceError):
    """As many webhooks are registered as there may be."""

    def __init__(self, limit: int) -> None:
        super().__init__("Too many webhooks", f"At most {limit} can be registered; remove one.")


class StoreUnavailable(ServiceError):
    """The store cannot be reached in time, or cannot take the command now."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(
            "The session store is not available at the moment",
            "Try again shortly. A change that was asked for may or may not have happened.",
        )
        self.reason = reason  # for the log, never for the caller
