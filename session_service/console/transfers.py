"""The patience of ``sessions export`` and ``import``."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from session_service.client import RateLimited

R = TypeVar("R")


async def patiently(call: Callable[[], Awaitable[R]]) -> R:
    """Make a call, again and again while the service limits the rate of requests."""
    while True:
        try:
            return await call()
        except RateLimited as error:
            await asyncio.sleep(error.retry_after or 1)
