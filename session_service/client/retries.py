"""Which failed requests are sent again, and when."""

import time
from email.utils import parsedate_to_datetime

from session_service.api.errors import ErrorCode
from session_service.client.errors import (
    ApiError,
    ConnectionFailed,
    RequestTimedOut,
    SessionServiceError,
    UnexpectedResponse,
)
from session_service.domain.times import jitter

_FIRST_SECONDS = 0.25
_MOST_SECONDS = 8.0
_LONGEST_WAIT = 60.0  # a caller is not kept waiting for longer, whatever Retry-After says

# The service did nothing, so any request may be sent again.
_NOTHING_DONE = frozenset(
    (
        ErrorCode.NOT_READY,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
        ErrorCode.REQUEST_TIMEOUT,
    )
)
# Something may have been done, so only a request that has one effect may be sent again. A conflict
# is the client's own first request, which is still in progress.
_PERHAPS_DONE = frozenset((ErrorCode.STORE_UNAVAILABLE, ErrorCode.IDEMPOTENCY_CONFLICT))
_PASSING_STATUSES = frozenset((408, 429))  # those below 500 of refusals that pass
_PROXY_STATUSES = frozenset((429, 502, 503, 504))  # of responses that are not the service's


class NoConnection(ConnectionFailed):
    """No connection was made, so the service did nothing."""


def may_retry(error: SessionServiceError, *, is_repeatable: bool) -> bool:
    """Return whether to send a request again; ``is_repeatable`` if a repetition has no effect."""
    if _delay_of(error) > _LONGEST_WAIT:
        return False
    match error:
        case NoConnection():
            return True
        case ApiError(code=code) if code in _NOTHING_DONE:
            return True
        case ApiError(code=code):
            return is_repeatable and code in _PERHAPS_DONE
        case UnexpectedResponse(status=status):
            return is_repeatable and status in _PROXY_STATUSES
        case ConnectionFailed() | RequestTimedOut():
            return is_repeatable
        case _:
            return False


def passes(error: SessionServiceError) -> bool:
    """Return whether a failure may pass by itself, unlike the refusal of a credential."""
    if isinstance(error, ApiError | UnexpectedResponse):
        return error.status >= 500 or error.status in _PASSING_STATUSES
    return True


def delay(error: SessionServiceError | None, attempt: int) -> float:
    """Return the seconds to wait before the next attempt; the first failed one is attempt 0.

    It doubles, up to 8 s, is random between half and all of that, and at least ``Retry-After``.
    """
    backoff = min(_MOST_SECONDS, _FIRST_SECONDS * 2.0 ** min(attempt, 10))
    spread = backoff * (0.5 + jitter() / 2)
    least = _delay_of(error)
    return least + spread / 4 if least else spread


def _delay_of(error: SessionServiceError | None) -> float:
    if isinstance(error, ApiError | UnexpectedResponse):
        return error.retry_after or 0.0
    return 0.0


def read_retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After``: ``2``, or a date; None if there is none."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
