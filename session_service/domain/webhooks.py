"""Webhooks: who is told of events, how a delivery is signed, and when it is tried again.

Signatures follow Standard Webhooks 1.0 (symmetric, ``v1``).
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from session_service.domain.addresses import EVERYWHERE, Network, is_allowed, is_allowed_host
from session_service.domain.budgets import RETRY_AFTER_SECONDS
from session_service.domain.errors import ValidationFailed
from session_service.domain.event_types import EVENT_TYPES
from session_service.domain.events import Event, EventFilter
from session_service.domain.ids import is_uuid

MAX_WEBHOOKS = 100
MAX_URL_LENGTH = 2048
SECRET_BYTES = (24, 64)
SECRET_PREFIX = "whsec_"  # noqa: S105 - how a secret starts
SECRET_IS = f"{SECRET_PREFIX} and 24 to 64 bytes in base64"
TYPES_ARE = f"an array of one or more of {', '.join(EVENT_TYPES)}, each also with session. before"

OVERLAP_HOURS = (0, 24, 168)  # of a secret that is replaced: least, default, most

_MAX_DELAY_MS = 8 * 3_600_000
_GROWTH = 4  # of the ceiling from one pause to the next


class WebhookPolicy(msgspec.Struct, frozen=True):
    """How deliveries are made, as the settings give it."""

    timeout_seconds: float = 15  # for one request
    first_delay_ms: int = 10_000  # at most, before a delivery is tried again
    retry_ms: int = 24 * 3_600_000  # from its queueing on, until a delivery is parked
    max_queued: int = 100_000  # deliveries to an endpoint
    allowed_networks: tuple[Network, ...] = ()  # beside public addresses
    endpoints: "tuple[Target, ...]" = ()  # their addresses are not checked: the operator chose them
    is_paused: bool = False  # whether events are queued, but not delivered

    @property
    def lease_ms(self) -> int:
        """How long a node has for a delivery it took, before another one takes it."""
        return round(self.timeout_seconds * 1000) + 5000

    def delay_ms(self, failures: int, fraction: float) -> int:
        """Return the pause after so many failures: exponential, with full jitter.

        ``fraction`` is a random number from 0 to 1. About a dozen attempts fit into 24 hours.
        """
        ceiling: int = self.first_delay_ms * _GROWTH ** min(failures - 1, 20)
        return round(fraction * min(ceiling, _MAX_DELAY_MS))

    def allows(self, address: str) -> bool:
        """Return whether an endpoint from the API may have an IP address."""
        return is_allowed(address, self.allowed_networks)


class Target(msgspec.Struct, frozen=True):
    """Where events go, and which. Deliveries are also signed with the previous secret, if any."""

    url: str
    secret: str
    wanted: EventFilter = EventFilter()
    previous_secret: str = ""

    def __repr__(self) -> str:
        return f"Target({host_of(self.url)!r})"


class Webhook(msgspec.Struct, frozen=True):
    """A registered endpoint. It gets what happens from ``created_at`` (epoch ms) on."""

    id: str  # names the shard of its queue, as a session's does
    target: Target
    created_at: int
    is_from_settings: bool
    is_on: bool  # false once the endpoint said that it is gone
    overlap_until: int | None = None  # the end of the previous secret, epoch ms; None: it has none

    def signatures(self, event_id: str, at: int, body: bytes) -> str:
        """Sign a delivery made ``at`` epoch ms: ``v1,…``, or ``v1,… v1,…`` with two secrets."""
        secrets = [self.target.secret]
        if self.overlap_until is None or at < self.overlap_until:
            secrets += filter(None, [self.target.previous_secret])
        return " ".join(
            signature(read_secret(each), event_id, at // 1000, body) for each in secrets
        )


class QueueSizes(msgspec.Struct, frozen=True):
    """How many deliveries to an endpoint wait, are parked, and were dropped in all."""

    queued: int
    dead: int
    dropped: int


class DeadLetter(msgspec.Struct, frozen=True):
    """A delivery that was given up at ``dead_since``, epoch ms."""

    event_id: str
    event: Event | None  # None: it cannot be read
    failures: int
    last_failure: str
    dead_since: int


def new_secret() -> str:
    """Make a secret, as it is shown."""
    return SECRET_PREFIX + base64.b64encode(os.urandom(32)).decode()


def read_secret(text: str, field: str = "secret") -> bytes:
    """Return the key in a secret; raises ValidationFailed for the field, without the secret."""
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    low, high = SECRET_BYTES
    if not text.startswith(SECRET_PREFIX) or not low <= len(key) <= high:
        raise ValidationFailed(field, f"must be {SECRET_IS}")
    return key


def signature(key: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """Sign a delivery; ``timestamp`` in seconds."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def retry_after_seconds(value: str, now: float) -> float:
    """Read a Retry-After header, e.g. ``120`` or ``Wed, 21 Oct 2026 07:28:00 GMT``; bounded.

    ``now`` is epoch seconds. Returns 0 for what is neither.
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
    """Return the id of an endpoint from the settings: the same on every node."""
    digits = hashlib.sha256(url.encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-{digits[18:30]}"


def host_of(url: str) -> str:
    """Return what of a URL may be logged: its host."""
    return urlsplit(url).hostname or ""


def check_url(url: str, networks: Iterable[Network] = ()) -> None:
    """Raise ValidationFailed if a URL cannot be an endpoint's.

    Addresses that are not public are allowed in ``networks``. Names are not resolved here: the
    address is checked for each connection.
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
    """Read names of event types, with ``session.`` or without; raises ValidationFailed."""
    names = frozenset(name.removeprefix("session.") for name in types)
    if not names or not names <= set(EVENT_TYPES):
        raise ValidationFailed("types", f"must be {TYPES_ARE}")
    return names


def read_targets(text: str) -> tuple[tuple[Target, ...], list[str]]:
    """Read the JSON array of SESSION_WEBHOOKS; return the endpoints, and a sentence per problem.

    Their addresses are not checked, because the operator chose them.
    """
    try:
        given = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        given = None
    if not isinstance(given, list) or len(given) > MAX_WEBHOOKS:
        return (), [f" must be a JSON array of at most {MAX_WEBHOOKS} objects with url and secret"]
    targets: list[Target] = []
    problems: list[str] = []
    for n, each in enumerate(given):
        target = _read_target(each, f"[{n}]", problems)
        if target and any(target.url == other.url for other in targets):
            problems.append(f"[{n}].url must be another than those before it")
        elif target:
            targets.append(target)
    return tuple(targets), problems


def _read_target(given: Any, where: str, problems: list[str]) -> Target | None:
    known = ("url", "secret", "previousSecret", "types", "userId", "agentId")
    if not isinstance(given, dict):
        problems.append(f"{where} must be an object with url and secret")
        return None
    found = [f"{where} must have no other members than {', '.join(known)}"] * bool(
        given.keys() - set(known)
    )
    types: frozenset[str] | None = None
    for name in known:
        value = given.get(name)
        try:
            if name in ("url", "secret") or value is not None:
                types = _check(name, value) or types
        except ValidationFailed as error:
            found.append(f"{where}.{error}")
    problems += found
    if found:
        return None
    user, agent = given.get("userId"), given.get("agentId")
    wanted = EventFilter(
        user_id=user and user.lower(), agent_id=agent and agent.lower(), types=types
    )
    return Target(given["url"], given["secret"], wanted, given.get("previousSecret") or "")


def _check(name: str, value: Any) -> frozenset[str] | None:
    """Check a member of an endpoint in the settings; returns the types, if it is those."""
    if name == "types":
        is_array = isinstance(value, list) and all(isinstance(each, str) for each in value)
        return check_types(value if is_array else [])
    if name == "url":
        check_url(value if isinstance(value, str) else "", EVERYWHERE)
    elif name in ("secret", "previousSecret"):
        read_secret(value if isinstance(value, str) else "", name)
    elif not isinstance(value, str) or not is_uuid(value):
        raise ValidationFailed(name, "must be a UUID")
    return None
