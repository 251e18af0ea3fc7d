"""The settings: parsed once from the environment into a frozen value.

Every problem is reported at once, one a line: the variable, its value and what is allowed.
"""

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

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
from session_service.domain.webhooks import WebhookPolicy
from session_service.environment import Reader
from session_service.store.client.urls import read_url


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
        reader = Reader(environment)
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
