"""Waiting for a condition, with a bound, in place of sleeping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def wait_until(
    condition: Callable[[], Any | Awaitable[Any]], seconds: float = 10, every: float = 0.005
) -> Any:
    """Return the condition's value once it is true; fails after the bound."""
    give_up = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < give_up, f"still not so after {seconds} s: {condition}"
        await asyncio.sleep(every)


async def a_moment_later(ms: float = 1) -> None:
    """Let the clock go on by more than that: stores under test have the one of this machine."""
    until = time.time() + ms / 1000
    await wait_until(lambda: time.time() > until, every=0.001)
