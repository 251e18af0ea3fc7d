"""The settings: parsed once from the environment into a frozen value.

Every problem is reported at once, one a line: the variable, its value and what is allowed. A secret
is also taken from a file that a variable with ``_FILE`` at its end names, and never repeated.
"""

import difflib
import importlib.util
import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from session_service.domain.addresses import EVERYWHERE, Network, read_networks
from session_service.domain.budgets import (
    BODY_BYTES,
    CONNECTIONS,
    CREATE_LIMIT,
    IN_FLIGHT,
    MESSAGES_PER_SESSION,
    REPLY_BYTES,
    SESSIONS_PER_USER,
    TIMEOUT_MINUTES,
)
from session_service.domain.events import EventPolicy
from session_service.domain.sessions import SessionLimits
from session_service.domain.timeouts import TimeoutPolicy, to_ms
from session_service.domain.webhooks import WebhookPolicy, read_targets
from session_service.store.url_options import StoreUrlError
from session_service.store.urls import masked, read_url

LOOPBACK = ("127.0.0.1", "::1")  # of these, a machine without IPv6 lacks the second

# Variables of others that look like ours: a desktop's session manager, and those that Kubernetes
# makes for a service, such as SESSION_SERVICE_HOST or SESSION_STORE_PORT_6379_TCP_ADDR.
_FOREIGN = re.compile(r"SESSION_MANAGER|.*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")
_NEAR = 0.85  # the likeness, of 1, from which a name outside of SESSION_* counts as misspelt
_SHORT = 8  # names of fewer characters, e.g. HOST, are like too many others


class SettingsError(Exception):
    """The environment does not make valid settings; ``problems`` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(msgspec.Struct, frozen=True):
    """All the service can be told."""

    listen_on: tuple[str, ...]  # names or addresses; IPv6 addresses without brackets
    port: int
    workers: int  # processes
    max_in_flight: int  # requests of a process
    max_connections: int  # of a process
    origins: tuple[str, ...]  # whose pages may use the service; none: its own
    create_limit: int  # sessions that pages may create from an address in a minute; 0: no limit
    hosts: tuple[str, ...]  # that the service answers for, beside addresses and plain names
    redis_url: str | None  # None: the embedded store
    data_dir: Path  # of the embedded store
    max_memory: int | None  # bytes for the embedded store; 0: no limit; None: half of what there is
    key_prefix: str
    store_timeout: float  # seconds
    write_ack: str  # what a write waits for beyond the store's reply: none, replica, fsync
    drain_seconds: float
    retention_minutes: float  # how long an expired session is remembered
    history_minutes: float  # how long a conversation is kept when its session is over
    limits: SessionLimits
    events: EventPolicy
    webhooks: WebhookPolicy
    timeouts: TimeoutPolicy
    log_level: str
    log_format: str
    warnings: tuple[str, ...]  # a sentence for each variable that is set and means nothing

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Parse the environment; an empty variable counts as unset. Raises SettingsError."""
        reader = _Reader(environment)
        number, text = reader.number, reader.text
        low = number("SESSION_MIN_TIMEOUT_MINUTES", 5, above=0, high=TIMEOUT_MINUTES)
        high = number("SESSION_MAX_TIMEOUT_MINUTES", max(1440, low), low, TIMEOUT_MINUTES)
        default = number("SESSION_DEFAULT_TIMEOUT_MINUTES", min(max(30, low), high), low, high)
        settings = cls(
            listen_on=reader.addresses("HOST"),
            port=int(number("PORT", 3000, 0, 65535, whole=True)),
            workers=int(number("WEB_CONCURRENCY", 1, 1, 64, whole=True)),
            max_in_flight=int(number("SESSION_MAX_IN_FLIGHT", IN_FLIGHT, 1, 100_000, whole=True)),
            max_connections=int(
                number("SESSION_MAX_CONNECTIONS", CONNECTIONS, 1, 500_000, whole=True)
            ),
            origins=reader.names(
                "SESSION_CORS_ORIGINS",
                r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s,*?#@]+",
                "* or origins such as https://app.example.org, separated by commas",
            ),
            create_limit=int(
                number("SESSION_CREATE_LIMIT_ADDRESS", CREATE_LIMIT, 0, 1_000_000, whole=True)
            ),
            hosts=reader.names(
                "ALLOWED_HOSTS",
                r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*",
                "* or hosts such as sessions.example.org or *.example.org, separated by commas",
            ),
            redis_url=reader.store_url("REDIS_URL"),
            data_dir=Path(text("SESSION_DATA_DIR", "data")),
            max_memory=reader.size("SESSION_DATA_MAX_MEMORY"),
            key_prefix=text(
                "SESSION_KEY_PREFIX",
                "session-service",
                re.compile(r"[A-Za-z0-9_.:-]{1,64}").fullmatch,
                "1 to 64 letters, digits, _ . : or -",
            ),
            store_timeout=number("SESSION_STORE_TIMEOUT_SECONDS", 2, 0.05, 60),
            write_ack=reader.choice("WRITE_ACK", "none", ("none", "replica", "fsync")),
            drain_seconds=number("SESSION_DRAIN_SECONDS", 8, 0, 600),
            retention_minutes=number(
                "SESSION_EXPIRED_RETENTION_MINUTES", 1440, above=0, high=525600
            ),
            history_minutes=number("SESSION_HISTORY_RETENTION_MINUTES", 0, 0, 525600),
            limits=SessionLimits(
                per_user=int(
                    number("SESSION_MAX_PER_USER", SESSIONS_PER_USER, 0, 1_000_000, whole=True)
                ),
                messages=int(
                    number("SESSION_MAX_MESSAGES", MESSAGES_PER_SESSION, 0, 10_000_000, whole=True)
                ),
                reply_bytes=int(
                    number("SESSION_REPLY_MAX_BYTES", REPLY_BYTES, 1, BODY_BYTES, whole=True)
                ),
            ),
            events=EventPolicy(
                max_length=int(
                    number("SESSION_EVENTS_MAX_LENGTH", 500_000, 1000, 1_000_000_000, whole=True)
                ),
                retention_ms=to_ms(
                    number("SESSION_EVENTS_RETENTION_MINUTES", 60, above=0, high=10_080)
                ),
                content=reader.choice("SESSION_EVENTS_CONTENT", "false", ("true", "false"))
                == "true",
            ),
            webhooks=reader.webhooks(),
            timeouts=TimeoutPolicy(
                min_timeout=low,
                max_timeout=high,
                default_timeout=default,
                default_max_duration=number(
                    "SESSION_MAX_DURATION_MINUTES",
                    min(max(720, default), 2 * high),
                    default,
                    2 * high,
                ),
                default_warning=number("SESSION_WARNING_THRESHOLD_MINUTES", 5, above=0, high=high),
            ),
            log_level=reader.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
            log_format=reader.choice("LOG_FORMAT", "auto", ("auto", "json", "console")),
            warnings=reader.unknown(),
        )
        if settings.redis_url is not None and read_url(settings.redis_url).kind == "memory":
            # Each process would have sessions of its own, and there is nothing to wait for.
            reader.needs("WEB_CONCURRENCY", settings.workers == 1, "1 with REDIS_URL=memory://")
            reader.needs("WRITE_ACK", settings.write_ack == "none", "none with REDIS_URL=memory://")
            reader.needs(
                "REDIS_URL",
                importlib.util.find_spec("fakeredis") is not None,
                "another store; memory:// needs pip install 'session-service[memory]'",
            )
        if reader.problems:
            raise SettingsError(reader.problems)
        return settings


class _Reader:
    """Takes variables from an environment and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._names: set[str] = set()  # of all settings, as they are read
        self.problems: list[str] = []

    def _get(self, name: str) -> str:
        self._names.add(name)
        return self._environment.get(name, "").strip()

    def secret(self, name: str) -> str:
        """Return the value of a variable, or what the file has that ``{name}_FILE`` names."""
        value, path = self._get(name), self._get(f"{name}_FILE")
        if not path:
            return value
        problem = f"{name} must not be set beside it" if value else ""
        if not problem:
            try:
                value = Path(path).read_text().strip()
                problem = "" if value else "the file is empty"
            except OSError as error:
                problem = f"the file cannot be read: {error.strerror}"
            except ValueError:  # not UTF-8
                problem = "the file cannot be read: it is not text"
        if problem:
            shown = "***" if "://" in path or path[0] in "[{" else path[:80]  # the secret itself
            self.problems.append(f"{name}_FILE={shown!r} is not allowed: {problem}")
            return ""
        return value

    def unknown(self) -> tuple[str, ...]:
        """Return a sentence for each variable that is probably a misspelt setting."""
        found = []
        for name in sorted(set(self._environment) - self._names):
            ours = name.startswith("SESSION_")
            if _FOREIGN.fullmatch(name) or not (ours or len(name) >= _SHORT):
                continue
            others = [n for n in self._names if n.startswith("SESSION_") == ours]
            near = difflib.get_close_matches(name, others, 1, 0.6 if ours else _NEAR)
            if ours or (near and near[0] not in self._environment):
                hint = f"; did you mean {near[0]}?" if near else ""
                found.append(f"{name} is set, and there is no such setting{hint}")
        return tuple(found)

    def text(
        self, name: str, default: Any, is_valid: Callable[[str], Any] = bool, allowed: str = ""
    ) -> Any:
        value = self._get(name)
        if not value:
            return default
        if not is_valid(value):
            self._problem(name, value, allowed)
            return default
        return value

    def store_url(self, name: str) -> str | None:
        value = self.secret(name)
        try:
            return value if value and read_url(value) else None
        except StoreUrlError as error:
            self._problem(name, masked(value), str(error))
            return None

    def names(self, name: str, pattern: str, allowed: str) -> tuple[str, ...]:
        """Read names separated by commas, or ``*`` for all."""
        is_valid = re.compile(rf"\*|{pattern}(?:\s*,\s*{pattern})*").fullmatch
        value = self.text(name, "", is_valid, allowed)
        return tuple(each.strip() for each in value.split(",") if each)

    def addresses(self, name: str) -> tuple[str, ...]:
        value = self.text(
            name,
            "",
            lambda text: all(_is_host(host) for host in _hosts(text)),
            "addresses such as 127.0.0.1 or ::, or names, separated by commas; PORT has the port",
        )
        return _hosts(value) or LOOPBACK

    def size(self, name: str) -> int | None:
        """Read a number of bytes, e.g. 512mb; None if it is not set."""
        value = self.text(
            name,
            "",
            re.compile(r"[0-9]{1,12}(kb|mb|gb)?", re.IGNORECASE).fullmatch,
            "a number of bytes such as 536870912, 512mb or 2gb; 0 for no limit",
        ).lower()
        digits = value.rstrip("kmgb")
        factor = 1024 ** (" kmg".index(value[-2]) if value.endswith("b") else 0)
        return int(digits) * factor if digits else None

    def needs(self, name: str, is_so: bool, allowed: str) -> None:
        """Note a problem with a value that another setting rules out."""
        if not is_so:
            self._problem(name, self._get(name), allowed)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default, lambda text: text.lower() in choices, ", ".join(choices))
        return str(value).lower()

    def webhooks(self) -> WebhookPolicy:
        name = "SESSION_WEBHOOKS"
        targets, problems = read_targets(self.secret(name) or "[]")
        # Without the values: they have secrets.
        self.problems += [f"{name}{problem}" for problem in problems]
        hours = self.number(f"{name}_RETRY_HOURS", 24, above=0, high=720)
        return WebhookPolicy(
            timeout_seconds=self.number(f"{name}_TIMEOUT_SECONDS", 15, 0.1, 60),
            first_delay_ms=round(1000 * self.number(f"{name}_RETRY_SECONDS", 10, 0.01, 3600)),
            retry_ms=to_ms(60 * hours),
            max_queued=int(self.number(f"{name}_MAX_QUEUED", 100_000, 1, 10_000_000, whole=True)),
            allowed_networks=self.networks(f"{name}_ALLOW_NETWORKS", f"{name}_ALLOW_PRIVATE"),
            endpoints=targets,
            is_paused=self.choice(f"{name}_PAUSED", "false", ("true", "false")) == "true",
        )

    def networks(self, name: str, name_for_all: str) -> tuple[Network, ...]:
        """Read networks, or all if the other variable is true."""
        value = self._get(name)
        if self.choice(name_for_all, "false", ("true", "false")) == "true":
            return EVERYWHERE
        try:
            return read_networks(value)
        except ValueError:
            self._problem(name, value, "networks such as 10.0.0.0/8, fd00::/8, parted by commas")
            return ()

    def number(
        self,
        name: str,
        default: float,
        low: float = -math.inf,
        high: float = math.inf,
        *,
        above: float | None = None,
        whole: bool = False,
    ) -> float:
        value = self._get(name)
        if not value:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        too_low = number <= above if above is not None else number < low
        if not math.isfinite(number) or too_low or number > high or (whole and number % 1):
            floor = f"above {above:g}" if above is not None else f"at least {low:.10g}"
            ceiling = "" if high == math.inf else f" and at most {high:.10g}"
            self._problem(name, value, f"a {'whole ' if whole else ''}number, {floor}{ceiling}")
            return default
        return number

    def _problem(self, name: str, value: str, allowed: str) -> None:
        value = re.sub(r"(?<=:)[^:@/]+(?=@)", "***", value)  # a URL's password
        self.problems.append(f"{name}={value[:80]!r} is not allowed: it must be {allowed}")


def _hosts(text: str) -> tuple[str, ...]:
    hosts = [host.strip() for host in text.split(",") if host]
    return tuple(host[1:-1] if host[:1] + host[-1:] == "[]" else host for host in hosts)


def _is_host(host: str) -> bool:
    """Tell whether this is an IP address, or can be a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        return all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in labels)
    return True
