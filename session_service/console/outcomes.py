"""Outcomes of deliveries, for people."""

from http import HTTPStatus

from session_service.api.webhooks import WebhookTested

_WORDS = {
    "TIMEOUT": "no response in time",
    "CONNECTION": "no connection to the endpoint",
    "TLS": "its certificate is not valid",
    "ADDRESS_NOT_ALLOWED": "its address is not allowed (SESSION_WEBHOOKS_ALLOW_NETWORKS)",
    "UNREADABLE": "the stored event cannot be read",
    "INTERNAL": "a defect of the service; see its log",
}


def describe(failure: str) -> str:
    """Return a failure in words, e.g. ``503 Service Unavailable`` for ``HTTP_503``."""
    kind, _, status = failure.partition("_")
    if kind != "HTTP":
        return _WORDS.get(failure, failure)
    try:
        return f"{status} {HTTPStatus(int(status)).phrase}"
    except ValueError:  # a status without a name
        return status


def outcome_of(tested: WebhookTested) -> str:
    """Return e.g. ``204 in 12 ms``, or ``failed: no response in time, 15,002 ms``."""
    if tested.failure is None:
        return f"{tested.status} in {tested.duration_ms:,} ms"
    return f"failed: {describe(tested.failure)}, {tested.duration_ms:,} ms"
