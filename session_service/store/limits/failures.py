"""Limits fail open: a request is served if its limit cannot be told; each one is counted."""

from collections.abc import Callable

from session_service.domain.errors import ServiceError, StoreUnavailable


class Failures:
    """Counts the requests that were served without their limit.

    ``report`` is called for each, with the reason; it may be set later.
    """

    def __init__(self) -> None:
        self.count = 0
        self.report: Callable[[str], None] = lambda _: None

    def add(self, reason: str) -> None:
        """Count a request."""
        self.count += 1
        self.report(reason)


def reason_of(error: ServiceError) -> str:
    """Return why a limit could not be applied, e.g. ``no reply in 2 s``."""
    return error.reason if isinstance(error, StoreUnavailable) else str(error)
