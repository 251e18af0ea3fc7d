"""Webhooks: who is told of events, how a delivery is signed, and when it is tried again.

Signatures follow Standard Webhooks 1.0 (symmetric, ``v1``).
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
from typing import Any
from urllib.parse import urlsplit

import msgspec

from session_service.domain.errors import ValidationFailed
from session_service.domain.events import EVENT_TYPES, Event, EventFilter
from session_service.domain.ids import is_uuid

MAX_WEBHOOKS = 100
MAX_URL_LENGTH = 2048
SECRET_BYTES = (24, 64)
SECRET_PREFIX = "whsec_"  # noqa: S105 - how a secret starts
SECRET_IS = f"{SECRET_PREFIX} and 24 to 64 bytes in base64"
TYPES_ARE = f"an array of one or more of {', '.join(EVENT_TYPES)}, each also with session. before"

_MAX_DELAY_MS = 8 * 3_600_000
_GROWTH = 4  # of the ceiling from one pause to the next

# Addresses that are global by their form, and lead into an IPv4 network.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class WebhookPolicy(msgspec.Struct, frozen=True):
    """How deliveries are made, as the settings give it."""

    timeout_seconds: float = 15  # for one request
    first_delay_ms: int = 10_000  # at most, before a delivery is tried again
    retry_ms: int = 24 * 3_600_000  # from its queueing on, until a delivery is parked
    max_queued: int = 100_000  # deliveries to an endpoint
    allow_private: bool = False
    endpoints: "tuple[Target, ...]" = ()

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


class Target(msgspec.Struct, frozen=True):
    """Where events go, and which."""

    url: str
    secret: str
    wanted: EventFilter = EventFilter()

    def __repr__(self) -> str:
        return f"Target({host_of(self.url)!r})"


class Webhook(msgspec.Struct, frozen=True):
    """A registered endpoint. It gets what happens from ``created_at`` (epoch ms) on."""

    id: str  # names the shard of its queue, as a session's does
    target: Target
    created_at: int
    is_from_settings: bool
    is_on: bool  # false once the endpoint said that it is gone


class QueueSizes(msgspec.Struct, frozen=True):
    """How many deliveries to an endpoint wait, are parked, and were dropped in all."""

    queued: int
    dead: int
    dropped: int


class DeadLetter(msgspec.Struct, frozen=True):
    """A delivery that was given up at ``dead_since``, epoch ms."""

    event: Event
    failures: int
    last_failure: str
    dead_since: int


def new_secret() -> str:
    """Make a secret, as it is shown."""
    return SECRET_PREFIX + base64.b64encode(os.urandom(32)).decode()


def read_secret(text: str) -> bytes:
    """Return the key in a secret; raises ValidationFailed, which does not have it."""
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    low, high = SECRET_BYTES
    if not text.startswith(SECRET_PREFIX) or not low <= len(key) <= high:
        raise ValidationFailed("secret", f"must be {SECRET_IS}")
    return key


def signature(key: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """Sign a delivery; ``timestamp`` in seconds."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def settings_id(url: str) -> str:
    """Return the id of an endpoint from the settings: the same on every node."""
    digits = hashlib.sha256(url.encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-{digits[18:30]}"


def is_public(address: str) -> bool:
    """Tell whether an IP address is of the public internet, and leads nowhere else."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner = None
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def host_of(url: str) -> str:
    """Return what of a URL may be logged: its host."""
    return urlsplit(url).hostname or ""


def check_url(url: str, *, allow_private: bool) -> None:
    """Raise ValidationFailed where a URL cannot be an endpoint's.

    Names are not resolved here: the address is checked for each connection.
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
    if not allow_private and _is_private(host):
        raise ValidationFailed(
            "url", "must be a public address: SESSION_WEBHOOKS_ALLOW_PRIVATE allows others"
        )


def check_types(types: list[str]) -> frozenset[str]:
    """Read names of event types, with ``session.`` or without; raises ValidationFailed."""
    names = frozenset(name.removeprefix("session.") for name in types)
    if not names or not names <= set(EVENT_TYPES):
        raise ValidationFailed("types", f"must be {TYPES_ARE}")
    return names


def read_targets(text: str, *, allow_private: bool) -> tuple[tuple[Target, ...], list[str]]:
    """Read a JSON array of endpoints; return them, and a sentence for each problem."""
    try:
        given = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        given = None
    if not isinstance(given, list) or len(given) > MAX_WEBHOOKS:
        return (), [f" must be a JSON array of at most {MAX_WEBHOOKS} objects with url and secret"]
    targets: list[Target] = []
    problems: list[str] = []
    for n, each in enumerate(given):
        target = _read_target(each, f"[{n}]", problems, allow_private=allow_private)
        if target and any(target.url == other.url for other in targets):
            problems.append(f"[{n}].url must be another than those before it")
        elif target:
            targets.append(target)
    return tuple(targets), problems


def _read_target(
    given: Any, where: str, problems: list[str], *, allow_private: bool
) -> Target | None:
    known = ("url", "secret", "types", "userId", "agentId")
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
                types = _check(name, value, allow_private=allow_private) or types
        except ValidationFailed as error:
            found.append(f"{where}.{error}")
    problems += found
    if found:
        return None
    user, agent = given.get("userId"), given.get("agentId")
    wanted = EventFilter(
        user_id=user and user.lower(), agent_id=agent and agent.lower(), types=types
    )
    return Target(given["url"], given["secret"], wanted)


def _check(name: str, value: Any, *, allow_private: bool) -> frozenset[str] | None:
    """Check a member of an endpoint in the settings; returns the types, if it is those."""
    if name == "types":
        is_array = isinstance(value, list) and all(isinstance(each, str) for each in value)
        return check_types(value if is_array else [])
    if name == "url":
        check_url(value if isinstance(value, str) else "", allow_private=allow_private)
    elif name == "secret":
        read_secret(value if isinstance(value, str) else "")
    elif not isinstance(value, str) or not is_uuid(value):
        raise ValidationFailed(name, "must be a UUID")
    return None


def _is_private(host: str) -> bool:
    """Tell whether a host is known without a look-up to be no public one."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.rstrip(".").rpartition(".")[2] == "localhost"
    return not is_public(host)
