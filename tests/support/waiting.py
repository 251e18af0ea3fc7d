"""Waiting for a condition, with a bound, in place of sleeping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest


async def wait_until(
    condition: Callable[[], Any | Awaitable[Any]],
    seconds: float = 10,
    every: float = 0.005,
    *,
    description: str = "",
) -> Any:
    """Return the condition's value once it is true; fails after the bound.

    The failure names the description, such as "the stream has begun", or else the condition's line.
    Wait for what the test asserts next, not for something that happens at about the same time.
    """
    give_up = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > give_up:
            awaited = description or _line_of(condition)
            pytest.fail(f"not within {seconds:g} s: {awaited}; its last value: {value!r}")
        await asyncio.sleep(every)


def _line_of(condition: Callable[[], Any]) -> str:
    """Return the source of the condition, or its repr if that cannot be read."""
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)


async def a_moment_later(ms: float = 1) -> None:
    """Wait until the clock has advanced by more than ``ms``, for stores on this machine."""
    until = time.time() + ms / 1000
    await wait_until(lambda: time.time() > until, every=0.001, description=f"{ms:g} ms have passed")
