"""The settings: parsed once from the environment into a frozen value.

Every problem is reported at once, one a line: the variable, its value and what is allowed.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from session_service.domain.events import EventPolicy
from session_service.domain.timeouts import TimeoutPolicy, to_ms
from session_service.domain.webhooks import WebhookPolicy, read_targets
from session_service.store.url_options import StoreUrlError
from session_service.store.urls import masked, read_url


class SettingsError(Exception):
    """The environment does not make valid settings; ``problems`` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(msgspec.Struct, frozen=True):
    """All the service can be told."""

    host: str
    port: int
    workers: int  # processes
    max_in_flight: int  # requests of a process
    max_connections: int  # of a process
    origins: tuple[str, ...]  # whose pages may use the service; none: its own
    hosts: tuple[str, ...]  # that the service answers for, beside addresses and plain names
    redis_url: str | None  # None: the embedded store
    data_dir: Path  # of the embedded store
    key_prefix: str
    store_timeout: float  # seconds
    write_ack: str  # what a write waits for beyond the store's reply: none, replica, fsync
    drain_seconds: float
    retention_minutes: float  # how long an expired session is remembered
    history_minutes: float  # how long a conversation is kept when its session is over
    events: EventPolicy
    webhooks: WebhookPolicy
    timeouts: TimeoutPolicy
    log_level: str
    log_format: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Parse the environment; an empty variable counts as unset. Raises SettingsError."""
        reader = _Reader(environment)
        number, text = reader.number, reader.text
        low = number("SESSION_MIN_TIMEOUT_MINUTES", 5, above=0)
        high = number("SESSION_MAX_TIMEOUT_MINUTES", max(1440, low), low)
        default = number("SESSION_DEFAULT_TIMEOUT_MINUTES", min(max(30, low), high), low, high)
        settings = cls(
            host=text("HOST", "0.0.0.0"),  # noqa: S104 - a service is there to be reached
            port=int(number("PORT", 3000, 0, 65535, whole=True)),
            workers=int(number("WEB_CONCURRENCY", 1, 1, 64, whole=True)),
            max_in_flight=int(number("SESSION_MAX_IN_FLIGHT", 2000, 1, 100_000, whole=True)),
            max_connections=int(number("SESSION_MAX_CONNECTIONS", 10_000, 1, 500_000, whole=True)),
            origins=reader.names(
                "SESSION_CORS_ORIGINS",
                r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s,]+",
                "* or origins such as https://app.example.org, separated by commas",
            ),
            hosts=reader.names(
                "ALLOWED_HOSTS",
                r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*",
                "* or hosts such as sessions.example.org or *.example.org, separated by commas",
            ),
            redis_url=reader.store_url("REDIS_URL"),
            data_dir=Path(text("SESSION_DATA_DIR", "data")),
            key_prefix=text(
                "SESSION_KEY_PREFIX",
                "sess",
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
        )
        if settings.redis_url is not None and read_url(settings.redis_url).kind == "memory":
            # Each process would have sessions of its own, and there is nothing to wait for.
            reader.needs("WEB_CONCURRENCY", settings.workers == 1, "1 with REDIS_URL=memory://")
            reader.needs("WRITE_ACK", settings.write_ack == "none", "none with REDIS_URL=memory://")
        if reader.problems:
            raise SettingsError(reader.problems)
        return settings


class _Reader:
    """Takes variables from an environment and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def text(
        self, name: str, default: Any, is_valid: Callable[[str], Any] = bool, allowed: str = ""
    ) -> Any:
        value = self._environment.get(name, "").strip()
        if not value:
            return default
        if not is_valid(value):
            self._problem(name, value, allowed)
            return default
        return value

    def store_url(self, name: str) -> str | None:
        value = self._environment.get(name, "").strip()
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

    def needs(self, name: str, is_so: bool, allowed: str) -> None:
        """Note a problem with a value that another setting rules out."""
        if not is_so:
            self._problem(name, self._environment.get(name, "").strip(), allowed)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default, lambda text: text.lower() in choices, ", ".join(choices))
        return str(value).lower()

    def webhooks(self) -> WebhookPolicy:
        name = "SESSION_WEBHOOKS"
        allow = self.choice(f"{name}_ALLOW_PRIVATE", "false", ("true", "false")) == "true"
        text = self._environment.get(name, "").strip()
        targets, problems = read_targets(text or "[]", allow_private=allow)
        # Without the values: they have secrets.
        self.problems += [f"{name}{problem}" for problem in problems]
        hours = self.number(f"{name}_RETRY_HOURS", 24, above=0, high=720)
        return WebhookPolicy(
            timeout_seconds=self.number(f"{name}_TIMEOUT_SECONDS", 15, 0.1, 60),
            first_delay_ms=round(1000 * self.number(f"{name}_RETRY_SECONDS", 10, 0.01, 3600)),
            retry_ms=to_ms(60 * hours),
            max_queued=int(self.number(f"{name}_MAX_QUEUED", 100_000, 1, 10_000_000, whole=True)),
            allow_private=allow,
            endpoints=targets,
        )

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
        value = self._environment.get(name, "").strip()
        if not value:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        too_low = number <= above if above is not None else number < low
        if not math.isfinite(number) or too_low or number > high or (whole and number % 1):
            floor = f"above {above:g}" if above is not None else f"at least {low:g}"
            ceiling = "" if high == math.inf else f" and at most {high:g}"
            self._problem(name, value, f"a {'whole ' if whole else ''}number, {floor}{ceiling}")
            return default
        return number

    def _problem(self, name: str, value: str, allowed: str) -> None:
        value = re.sub(r"(?<=:)[^:@/]+(?=@)", "***", value)  # a URL's password
        self.problems.append(f"{name}={value[:80]!r} is not allowed: it must be {allowed}")
