"""The errors of the service, as a caller sees them.

    ServiceError
    ├── NotAuthenticated      access control is on, and the request has no valid credential
    ├── NotPermitted          the credential lacks a scope, or may not act for this user or agent
    ├── AgentNotFound         the agent is not one of those that the service knows
    ├── ValidationFailed      a field is missing, has the wrong type or is out of range
    ├── SessionNotFound       it never existed, was ended, or its retention is over
    ├── ConversationNotFound  none is retained: the session is live or unknown, or the time is over
    ├── SessionExpired        it expired and is still within its retention
    ├── RecordUnreadable      the stored record is damaged, or a newer version wrote it
    ├── TooManySessions       the user has SESSION_MAX_PER_USER live sessions already
    ├── TooManyMessages       the session has SESSION_MAX_MESSAGES messages already
    ├── RenewalFailed         the session lasts until its maximum duration already
    ├── IdempotencyMismatch   the key was used for another request
    ├── IdempotencyConflict   the first request with this key is still in progress
    ├── TooManyKeys           the session used up its Idempotency-Keys of the day
    ├── RateLimited           the caller has made too many requests
    ├── WebhookNotFound       it was never registered, or was removed
    ├── TooManyWebhooks       the maximum number of webhooks is registered
    ├── KeySetUnavailable     there is no key set to verify a JWT with
    └── StoreUnavailable      the store did not answer in time; a change may have happened

``api/errors.py`` has the codes and statuses, ``web/http/errors.py`` the errors of HTTP itself and
the table from error to code.
"""

from session_service.domain.times import iso


class ServiceError(Exception):
    """Base class of the errors that are reported to the caller.

    ``message`` (and ``str(error)``) states the problem, and ``details`` helps to correct the
    request, e.g. "Session not found" and "It never existed, was ended, or ran out too long ago."
    A subclass sets both as class attributes unless they depend on the request.
    """

    message: str = ""
    details: str = ""

    def __init__(self, details: str | None = None, *, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        if details is not None:
            self.details = details
        super().__init__(self.message)


class ValidationFailed(ServiceError):
    """The value of a field is not allowed, e.g. "limit must be a whole number from 1 to 100"."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, message=f"{field} {problem}")


class NotAuthenticated(ServiceError):
    """The request has no valid credential; the response does not say what is wrong with it."""

    message = "A valid credential is required"
    details = "Send an API key in X-API-KEY, or a key or token as Authorization: Bearer."


class NotPermitted(ServiceError):
    """The credential does not permit the request, which shows that by itself."""

    message = "The credential does not permit this"

    def __init__(self, details: str) -> None:
        super().__init__(details)

    @classmethod
    def for_lack_of(cls, scope: str) -> "NotPermitted":
        """Return the error for a credential that lacks a scope, e.g. ``sessions:read``."""
        return cls(f"It lacks the scope {scope}.")


class AgentNotFound(ServiceError):
    """The agent is not one of those that the service knows."""

    message = "Agent not found"
    details = "The service knows only the agents that its settings list."


class SessionNotFound(ServiceError):
    """There is no such session, or the caller may not see it: the response must not differ."""

    message = "Session not found"
    details = "It never existed, was ended, or ran out too long ago."


class ConversationNotFound(ServiceError):
    """No conversation of the session is retained; the response does not say why."""

    message = "Conversation not found"
    details = "It is kept here once its session is over, for as long as the service is set to."


class SessionExpired(ServiceError):
    """The session expired at ``expires_at`` (epoch milliseconds)."""

    message = "Session has expired"

    def __init__(self, expires_at: int) -> None:
        super().__init__(f"Its expiresAt was {iso(expires_at)}. Create a new session to go on.")
        self.expires_at = expires_at


class RecordUnreadable(ServiceError):
    """The stored record is damaged or was written by a newer version; it is left untouched."""

    message = "The stored record cannot be read by this node"
    details = "It is damaged, or a newer version of the service wrote it. It was left as it is."

    def __init__(self, reason: str = "") -> None:
        super().__init__()
        self.reason = reason  # for the log, never for the caller


class TooManySessions(ServiceError):
    """The user has the maximum number of live sessions."""

    message = "Too many sessions"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"A user can have at most {limit:,} live sessions. End one, or wait until one expires."
        )


class TooManyMessages(ServiceError):
    """The session has the maximum number of messages."""

    message = "Too many messages"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"A session can have at most {limit:,} messages. Create a new session to go on."
        )


class RenewalFailed(ServiceError):
    """The session already lasts until its maximum duration."""

    message = "Session cannot be renewed: it has reached its maximum duration"

    def __init__(self, max_duration_minutes: float) -> None:
        super().__init__(
            f"maxDurationMinutes is {max_duration_minutes:g}, counted from createdAt;"
            " raise it, or create a new session."
        )


class IdempotencyMismatch(ServiceError):
    """The Idempotency-Key was used for another request."""

    message = "The Idempotency-Key was used for another request"
    details = "A key stands for one method, path, query and body for 24 hours. Use a new one."


class IdempotencyConflict(ServiceError):
    """The first request with this Idempotency-Key is still in progress."""

    message = "The request with this Idempotency-Key is still being worked on"
    details = "Try again shortly, to get its answer."


class TooManyKeys(ServiceError):
    """The session has the maximum number of requests with an Idempotency-Key within a day."""

    message = "Too many Idempotency-Keys for one session"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"Allowed: {limit:,} in 24 hours. Nothing was done. Send the request without a key."
        )


class RateLimited(ServiceError):
    """The caller has made too many requests; ``retry_after`` is in whole seconds.

    ``setting`` names the limit, e.g. ``RATE_LIMIT_USER``.
    """

    message = "Too many requests"

    def __init__(self, details: str, retry_after: int, setting: str = "") -> None:
        super().__init__(details)
        self.retry_after = retry_after
        self.setting = setting


class WebhookNotFound(ServiceError):
    """There is no such webhook."""

    message = "Webhook not found"
    details = "It was never registered, or was removed."


class TooManyWebhooks(ServiceError):
    """The maximum number of webhooks is registered."""

    message = "Too many webhooks"

    def __init__(self, limit: int) -> None:
        super().__init__(f"At most {limit} can be registered; remove one.")


class KeySetUnavailable(ServiceError):
    """The key set at JWT_JWKS_URL cannot be fetched, and there is none that may still serve."""

    message = "Tokens cannot be verified at the moment"
    details = "The keys of their issuer are not available. Nothing was done. Try again shortly."

    def __init__(self, reason: str = "") -> None:
        super().__init__()
        self.reason = reason  # for the log, never for the caller


class StoreUnavailable(ServiceError):
    """The store cannot be reached in time, or cannot execute the command at present."""

    message = "The session store is not available at the moment"
    details = "Try again shortly. A change that was asked for may or may not have happened."

    def __init__(self, reason: str = "") -> None:
        super().__init__()
        self.reason = reason  # for the log, never for the caller
