"""Webhooks: endpoints that receive events, and the rules by which deliveries to them are made."""

import hashlib
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET

from session_service.domain.addresses import Network, is_allowed, is_allowed_host
from session_service.domain.budgets import RETRY_AFTER_SECONDS
from session_service.domain.errors import ValidationFailed
from session_service.domain.event_types import EVENT_TYPES
from session_service.domain.events import Event, EventFilter
from session_service.domain.signing import read_secret, signature

MAX_WEBHOOKS = 100
MAX_URL_LENGTH = 2048
TYPES_FORMAT = (
    f"an array of one or more of {', '.join(EVENT_TYPES)}, each also with session. before"
)

# For how many hours a secret that is replaced is used beside its successor.
MIN_OVERLAP_HOURS, DEFAULT_OVERLAP_HOURS, MAX_OVERLAP_HOURS = 0, 24, 168

_MAX_DELAY_MS = 8 * 3_600_000
_DELAY_GROWTH = 4  # of the longest delay, from one attempt to the next


class WebhookPolicy(msgspec.Struct, frozen=True):
    """How deliveries are made, from the settings."""

    timeout_seconds: float = 15  # for one request
    first_delay_ms: int = 10_000  # at most, before a delivery is tried again
    retry_ms: int = 24 * 3_600_000  # from its queueing on, until a delivery is parked
    max_queued: int = 100_000  # deliveries to an endpoint
    allowed_networks: tuple[Network, ...] = ()  # beside public addresses
    endpoints: "tuple[Target, ...]" = ()  # their addresses are not checked: the operator chose them
    is_paused: bool = False  # whether events are queued, but not delivered

    @property
    def lease_ms(self) -> int:
        """The milliseconds after which another node may take a delivery that a node has claimed."""
        return round(self.timeout_seconds * 1000) + 5000

    def delay_ms(self, failures: int, fraction: float) -> int:
        """Return the delay after so many failures: exponential, with full jitter.

        ``fraction`` is a random number from 0 to 1. About a dozen attempts fit into 24 hours.
        """
        longest: int = self.first_delay_ms * _DELAY_GROWTH ** min(failures - 1, 20)
        return round(fraction * min(longest, _MAX_DELAY_MS))

    def allows(self, address: str) -> bool:
        """Return whether an endpoint that was registered over the API may have an IP address."""
        return is_allowed(address, self.allowed_networks)


class Target(msgspec.Struct, frozen=True):
    """An endpoint's URL and secrets, and the events it receives.

    Deliveries are also signed with the previous secret, if there is one.
    """

    url: str
    secret: str
    filter: EventFilter = msgspec.field(default=EventFilter(), name="wanted")  # its name in Redis
    previous_secret: str = ""

    def __repr__(self) -> str:
        return f"Target({host_of(self.url)!r})"


class Webhook(msgspec.Struct, frozen=True):
    """A registered endpoint, which receives the events from ``created_at`` (epoch ms) on."""

    id: str  # names the shard of its queue, as a session's id does
    target: Target
    created_at: int
    is_from_settings: bool
    is_enabled: bool  # false once the endpoint has answered 410 Gone
    overlap_until: int | None = None  # the end of the previous secret, epoch ms; None: it has none

    def exists_for(self, agents: frozenset[str] | None) -> bool:
        """Return whether it exists for a key that is bound to agents, or to none if that is None.

        A bound key sees the webhooks of keys whose agents are among its own.
        """
        owners = self.target.filter.agents
        return agents is None or (owners is not UNSET and owners <= agents)

    def signatures(self, event_id: str, at: int, body: bytes) -> str:
        """Sign a delivery made ``at`` epoch ms: ``v1,…``, or ``v1,… v1,…`` with two secrets."""
        secrets = [self.target.secret]
        if self.overlap_until is None or at < self.overlap_until:
            secrets += filter(None, [self.target.previous_secret])
        return " ".join(
            signature(read_secret(secret), event_id, at // 1000, body) for secret in secrets
        )


class Outcome(NamedTuple):
    """The outcome of a delivery."""

    failure: str = ""  # e.g. "HTTP_503" or "TIMEOUT"; "" if it was made
    retry_after: float = 0.0  # seconds until the endpoint wants another one; 0: it named none
    status: int = 0  # of the response; 0: there was none


class QueueSizes(msgspec.Struct, frozen=True):
    """The numbers of deliveries to an endpoint that wait, are parked, and were ever dropped."""

    queued: int
    dead: int
    dropped: int


class DeadLetter(msgspec.Struct, frozen=True):
    """A delivery that was parked at ``dead_since`` (epoch ms), after the last attempt failed."""

    event_id: str
    event: Event | None  # None: it cannot be read
    failures: int
    last_failure: str
    dead_since: int


def retry_after_seconds(value: str, now: float) -> float:
    """Read a Retry-After header, e.g. ``120`` or ``Wed, 21 Oct 2026 07:28:00 GMT``; bounded.

    ``now`` is epoch seconds. Returns 0 if the value is neither.
    """
    try:
        seconds = float(value) if value.isascii() and value.isdigit() else _until(value, now)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, min(seconds, RETRY_AFTER_SECONDS))


def _until(http_date: str, now: float) -> float:
    date = parsedate_to_datetime(http_date)
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now


def settings_id(url: str) -> str:
    """Return the id of an endpoint from the settings, which is the same on every node."""
    digits = hashlib.sha256(url.encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-{digits[18:30]}"


def host_of(url: str) -> str:
    """Return the host of a URL, which may be logged: the path may contain a secret."""
    return urlsplit(url).hostname or ""


def check_url(url: str, networks: Iterable[Network] = ()) -> None:
    """Raise ValidationFailed if a URL cannot be that of an endpoint.

    An address must be public or in one of ``networks``. Names are not resolved here: the address
    is checked for each connection.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        (host if ":" in host else host.encode("idna").decode()).encode("ascii")
    except (ValueError, UnicodeError):
        parts, host = urlsplit(""), ""
    is_plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    if parts.scheme not in ("http", "https") or not host or not is_plain:
        raise ValidationFailed("url", "must be an http:// or https:// URL with a host, in ASCII")
    if len(url) > MAX_URL_LENGTH:
        raise ValidationFailed("url", f"must be at most {MAX_URL_LENGTH:,} characters long")
    if "@" in parts.netloc or parts.fragment:
        raise ValidationFailed("url", "must be without a user name, a password and a fragment")
    if not is_allowed_host(host, networks):
        raise ValidationFailed(
            "url", "must be a public address: SESSION_WEBHOOKS_ALLOW_NETWORKS allows others"
        )


def check_types(types: list[str]) -> frozenset[str]:
    """Read types of events, e.g. ``["expiring", "session.expired"]``; raises ValidationFailed."""
    names = frozenset(name.removeprefix("session.") for name in types)
    if not names or not names <= set(EVENT_TYPES):
        raise ValidationFailed("types", f"must be {TYPES_FORMAT}")
    return names
