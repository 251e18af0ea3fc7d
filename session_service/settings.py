"""The settings: parsed once from the environment into a frozen value.

All problems are reported at once, one a line, each with the variable, its value and the allowed
values, e.g. ``PORT='x' is not allowed: it must be a whole number, at least 0 and at most 65535``.
"""

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from session_service.access_settings import AccessSettings, read_access
from session_service.domain.budgets import (
    BODY_BYTES,
    CONNECTIONS,
    CREATE_LIMIT,
    IN_FLIGHT,
    SLOW_REQUEST_MS,
    TIMEOUT_MINUTES,
)
from session_service.domain.events import EventPolicy
from session_service.domain.ids import UUID_PATTERN
from session_service.domain.sessions import SessionLimits
from session_service.domain.timeouts import MS_PER_MINUTE, TimeoutPolicy, to_minutes, to_ms
from session_service.domain.webhooks import WebhookPolicy
from session_service.environment import LOOPBACK, Reader
from session_service.rate_settings import RateSettings, read_rates
from session_service.store.client.urls import read_url
from session_service.tracing_settings import TracingSettings, read_tracing

_UUID = UUID_PATTERN.removeprefix(r"\A").removesuffix(r"\Z")


class SettingsError(Exception):
    """The environment has values that are not allowed; ``problems`` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a process. The defaults are those of docs/settings.md.

    ``from_environment`` checks the values; a test or a tool may set some by name::

        Settings(redis_url="redis://127.0.0.1:6379/0", retention_minutes=5)
    """

    listen_on: tuple[str, ...] = LOOPBACK  # names or addresses; IPv6 addresses without brackets
    port: int = 3000
    metrics_port: int = 0  # 0: none
    workers: int = 1  # processes
    max_in_flight: int = IN_FLIGHT  # requests of a process
    max_connections: int = CONNECTIONS  # of a process
    origins: tuple[str, ...] = ()  # of pages that may use the service; none: only its own
    create_limit: int = CREATE_LIMIT  # sessions a minute by pages at one address; 0: no limit
    hosts: tuple[str, ...] = ()  # names of the service, besides addresses and names without a dot
    redis_url: str | None = None  # None: the embedded store
    data_dir: Path = Path("data")  # of the embedded store
    max_memory: int | None = None  # bytes for the embedded store; 0: no limit; None: half of all
    key_prefix: str = "session-service"
    store_timeout: float = 2  # seconds
    write_ack: str = "none"  # the confirmation that a write waits for: none, replica or fsync
    drain_seconds: float = 8
    retention_minutes: float = 1440  # how long an expired session is remembered
    history_minutes: float = 0  # how long a conversation is kept when its session is over
    agents: frozenset[str] = frozenset()  # that sessions may be created with; none: with all
    access: AccessSettings = AccessSettings()
    rates: RateSettings = RateSettings()
    limits: SessionLimits = SessionLimits()
    events: EventPolicy = EventPolicy()
    webhooks: WebhookPolicy = WebhookPolicy()
    timeouts: TimeoutPolicy = TimeoutPolicy()
    log_level: str = "info"
    log_format: str = "auto"
    access_log: bool = False  # a line for every request
    tracing: TracingSettings = TracingSettings()
    slow_request_ms: int = SLOW_REQUEST_MS  # from which a request has a line; 0: none is slow
    warnings: tuple[str, ...] = ()  # a sentence for each variable that is set without effect

    @property
    def retention_ms(self) -> int:
        """How long an expired session is remembered, in whole milliseconds, at least one."""
        return to_ms(self.retention_minutes)

    @property
    def history_ms(self) -> int:
        """How long the conversation of a session that is over is kept; 0: it is deleted."""
        return round(self.history_minutes * MS_PER_MINUTE)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Parse the environment; an empty variable counts as unset. Raises SettingsError."""
        reader = Reader(environment)
        settings = cls.read(reader)
        if reader.problems:
            raise SettingsError(reader.problems)
        return settings

    @classmethod
    def read(cls, reader: Reader) -> "Settings":
        """Read all settings; problems go to the reader, and the value of each is the default."""
        default = cls()
        number, whole = reader.number, reader.whole
        settings = cls(
            listen_on=reader.addresses("HOST"),
            port=whole("PORT", default.port, 0, 65535),
            metrics_port=whole("METRICS_PORT", default.metrics_port, 0, 65535),
            workers=whole("WEB_CONCURRENCY", default.workers, 1, 64),
            max_in_flight=whole("SESSION_MAX_IN_FLIGHT", default.max_in_flight, 1, 100_000),
            max_connections=whole("SESSION_MAX_CONNECTIONS", default.max_connections, 1, 500_000),
            origins=reader.names(
                "SESSION_CORS_ORIGINS",
                r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s,*?#@]+",
                "* or origins such as https://app.example.org, separated by commas",
            ),
            create_limit=whole("SESSION_CREATE_LIMIT_ADDRESS", default.create_limit, 0, 1_000_000),
            hosts=reader.names(
                "ALLOWED_HOSTS",
                r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*",
                "* or hosts such as sessions.example.org or *.example.org, separated by commas",
            ),
            redis_url=reader.store_url("REDIS_URL"),
            data_dir=Path(reader.text("SESSION_DATA_DIR", default.data_dir)),
            max_memory=reader.size("SESSION_DATA_MAX_MEMORY"),
            key_prefix=reader.text(
                "SESSION_KEY_PREFIX",
                default.key_prefix,
                re.compile(r"[A-Za-z0-9_.:-]{1,64}").fullmatch,
                "1 to 64 letters, digits, _ . : or -",
            ),
            store_timeout=number("SESSION_STORE_TIMEOUT_SECONDS", default.store_timeout, 0.05, 60),
            write_ack=reader.choice("WRITE_ACK", default.write_ack, ("none", "replica", "fsync")),
            drain_seconds=number("SESSION_DRAIN_SECONDS", default.drain_seconds, 0, 600),
            retention_minutes=number(
                "SESSION_EXPIRED_RETENTION_MINUTES", default.retention_minutes, above=0, high=525600
            ),
            history_minutes=number(
                "SESSION_HISTORY_RETENTION_MINUTES", default.history_minutes, 0, 525600
            ),
            agents=_agents(reader),
            access=read_access(reader),
            limits=_limits(reader, default.limits),
            events=_events(reader, default.events),
            webhooks=reader.webhooks(default.webhooks),
            timeouts=_timeouts(reader, default.timeouts),
            log_level=reader.choice(
                "LOG_LEVEL", default.log_level, ("debug", "info", "warning", "error")
            ),
            log_format=reader.choice("LOG_FORMAT", default.log_format, ("auto", "json", "console")),
            access_log=reader.switch("ACCESS_LOG"),
            slow_request_ms=whole("SLOW_REQUEST_MS", default.slow_request_ms, 0, 3_600_000),
            rates=read_rates(reader),
            tracing=read_tracing(reader),
            warnings=reader.unknown(),
        )
        if settings.redis_url is not None and read_url(settings.redis_url).kind == "memory":
            _check_memory_store(reader, settings)
        is_free = settings.metrics_port == 0 or settings.metrics_port != settings.port
        reader.require("METRICS_PORT", is_free, "another port than PORT")
        return settings


def _agents(reader: Reader) -> frozenset[str]:
    agents = reader.names("SESSION_AGENTS", _UUID, "* or UUIDs, separated by commas")
    return frozenset(map(str.lower, agents)) - {"*"}


def _limits(reader: Reader, default: SessionLimits) -> SessionLimits:
    whole = reader.whole
    return SessionLimits(
        per_user=whole("SESSION_MAX_PER_USER", default.per_user, 0, 1_000_000),
        messages=whole("SESSION_MAX_MESSAGES", default.messages, 0, 10_000_000),
        reply_bytes=whole("SESSION_REPLY_MAX_BYTES", default.reply_bytes, 1, BODY_BYTES),
        ends_oldest=_ends_oldest(reader),
    )


def _ends_oldest(reader: Reader) -> bool:
    name = "SESSION_MAX_PER_USER_POLICY"
    return reader.choice(name, "refuse", ("refuse", "end-oldest")) == "end-oldest"


def _events(reader: Reader, default: EventPolicy) -> EventPolicy:
    minutes = to_minutes(default.retention_ms)
    return EventPolicy(
        max_length=reader.whole(
            "SESSION_EVENTS_MAX_LENGTH", default.max_length, 1000, 1_000_000_000
        ),
        retention_ms=to_ms(
            reader.number("SESSION_EVENTS_RETENTION_MINUTES", minutes, above=0, high=10_080)
        ),
        content=reader.flag("SESSION_EVENTS_CONTENT"),
    )


def _timeouts(reader: Reader, default: TimeoutPolicy) -> TimeoutPolicy:
    """Read the timeout rules; move a default inside the limits if these exclude it."""
    number = reader.number
    low = number("SESSION_MIN_TIMEOUT_MINUTES", default.min_timeout, above=0, high=TIMEOUT_MINUTES)
    high = number(
        "SESSION_MAX_TIMEOUT_MINUTES", max(default.max_timeout, low), low, TIMEOUT_MINUTES
    )
    timeout = number(
        "SESSION_DEFAULT_TIMEOUT_MINUTES", min(max(default.default_timeout, low), high), low, high
    )
    return TimeoutPolicy(
        min_timeout=low,
        max_timeout=high,
        default_timeout=timeout,
        default_max_duration=number(
            "SESSION_MAX_DURATION_MINUTES",
            min(max(default.default_max_duration, timeout), 2 * high),
            timeout,
            2 * high,
        ),
        default_warning=number(
            "SESSION_WARNING_THRESHOLD_MINUTES", default.default_warning, above=0, high=high
        ),
    )


def _check_memory_store(reader: Reader, settings: Settings) -> None:
    # Each process would have sessions of its own, and nothing could confirm a write.
    reader.require("WEB_CONCURRENCY", settings.workers == 1, "1 with REDIS_URL=memory://")
    reader.require("WRITE_ACK", settings.write_ack == "none", "none with REDIS_URL=memory://")
    reader.require(
        "REDIS_URL",
        importlib.util.find_spec("fakeredis") is not None,
        "another store; memory:// needs pip install 'session-service[memory]'",
    )
