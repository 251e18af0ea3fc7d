"""Ids and times for people, in columns of a terminal of 80 characters."""

import sys
from datetime import UTC, datetime

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def short_id(value: str) -> str:
    """Return the first characters of an id on a terminal, e.g. ``3f1c9a2e…``; elsewhere all."""
    return shortened(value) if sys.stdout.isatty() else value


def shortened(value: str) -> str:
    """Return the first 8 characters of an id, e.g. ``3f1c9a2e…``."""
    return f"{value[:8]}…" if len(value) > 9 else value


def short_time(seconds: float) -> str:
    """Return a time in its largest unit, rounded down, e.g. ``29m``; ``0s`` for less than one."""
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return "0s"


def number_of(number: int, noun: str) -> str:
    """Return a number with a noun, e.g. ``1 session``, or ``2,000 sessions``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def countdown(seconds: float) -> str:
    """Return a time that runs out, e.g. ``29:12`` or ``1:05:09``; days as ``3d 04h``."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24:02}h"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def epoch_seconds(timestamp: str) -> float:
    """Return a timestamp such as ``2026-01-31T12:00:00.000Z`` in seconds since 1970."""
    return datetime.fromisoformat(timestamp).timestamp()


def since(timestamp: str, now: datetime | None = None) -> str:
    """Return how long ago a time was, e.g. ``5m``, for ``2026-01-31T12:00:00.000Z``."""
    passed = (now or datetime.now(UTC)) - datetime.fromisoformat(timestamp)
    return short_time(passed.total_seconds())
