"""Values that are made when they are first needed, so that the start does not wait for them."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """A value that a thread makes for the first request that needs it, and that is kept.

    Requests that come meanwhile wait for the same value. If ``make`` fails, the next one tries
    again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._lock = asyncio.Lock()

    async def get(self) -> T:
        """Return the value."""
        if not self._made:
            async with self._lock:
                if not self._made:
                    self._made.append(await asyncio.to_thread(self._make))
        return self._made[0]
