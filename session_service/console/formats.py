"""Ids and times for people, in columns of a terminal of 80 characters."""

import sys
from datetime import UTC, datetime

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def short_id(value: str) -> str:
    """Return the first characters of an id on a terminal, e.g. ``3f1c9a2e…``; elsewhere all."""
    return f"{value[:8]}…" if sys.stdout.isatty() and len(value) > 9 else value


def short_time(seconds: float) -> str:
    """Return a time in its largest unit, rounded down, e.g. ``29m``; ``0s`` for less than one."""
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return "0s"


def number_of(number: int, noun: str) -> str:
    """Return a number with a noun, e.g. ``1 session``, or ``2,000 sessions``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def since(timestamp: str, now: datetime | None = None) -> str:
    """Return how long ago a time was, e.g. ``5m``, for ``2026-01-31T12:00:00.000Z``."""
    passed = (now or datetime.now(UTC)) - datetime.fromisoformat(timestamp)
    return short_time(passed.total_seconds())
