"""Findings about the store, the settings and the machine, for an operator."""

from typing import Literal

import msgspec

Level = Literal["ok", "warning", "error"]


class Finding(msgspec.Struct, frozen=True):
    """A fact that an operator should know, e.g. that the store may evict sessions.

    A warning is a risk; with an error, requests fail or sessions are lost. A finding that is ``ok``
    has the state in place of a problem, and no remedy.
    """

    id: str  # e.g. eviction; docs/operating.md lists all
    level: Level
    problem: str
    remedy: str = ""


def ok(name: str, state: str) -> Finding:
    """Return the finding that a part is in order."""
    return Finding(name, "ok", state)


def warning(name: str, problem: str, remedy: str) -> Finding:
    """Return a finding about a risk."""
    return Finding(name, "warning", problem, remedy)


def error(name: str, problem: str, remedy: str) -> Finding:
    """Return a finding about requests that fail, or sessions that are or will be lost."""
    return Finding(name, "error", problem, remedy)
