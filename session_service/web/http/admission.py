"""Counts the work in progress in this process, and limits it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp.streams import StreamReader

from session_service.domain.budgets import (
    BODIES_BYTES,
    BODY_COST_BYTES,
    BODY_GRACE_SECONDS,
    BODY_RATE,
    BODY_SECONDS,
    CONNECTIONS,
    IN_FLIGHT,
    UNREAD_BYTES,
)
from session_service.logs import Throttled
from session_service.metrics.measures import Measures
from session_service.metrics.numbers import Number
from session_service.web.http.errors import Overloaded
from session_service.web.http.transfers import Transfers

_log = logging.getLogger("session_service.refusals")


class Refusal(Throttled):
    """A log line about requests or connections that are refused, which also counts them."""

    def __init__(self, number: Number, message: str, level: int = logging.WARNING) -> None:
        super().__init__(_log, message, level)
        self._number = number

    def log(self, **extra: Any) -> None:
        """Count a refusal, and write or count a line."""
        self._number.add()
        super().log(**extra)


class Refusals:
    """Counts and logs refusals and cut connections: at most one line a second of each kind."""

    def __init__(self, measures: Measures) -> None:
        numbers = measures.refused
        self.overload = Refusal(numbers["overload"], "requests refused: too many are in flight")
        self.connections = Refusal(
            numbers["connections"], "connections closed or refused: the limit is reached"
        )
        self.unread = Refusal(numbers["unread"], "connections cut: their clients do not read")
        self.store = Refusal(numbers["store"], "store unavailable")
        self.creations = Throttled(_log, "sessions not created: SESSION_CREATE_LIMIT_ADDRESS")
        self.rates = Throttled(_log, "requests refused: a limit on requests is reached")
        self.unlimited = Throttled(_log, "requests served without their limit")
        self.malformed = Refusal(
            numbers["malformed"], "requests refused: they are not valid HTTP", logging.INFO
        )
        self.late = Refusal(
            numbers["late"], "requests refused: their head came too late", logging.INFO
        )


class Admission:
    """Counts requests in flight, bodies that are arriving, and responses that are not read.

    A request is in flight from its head to its response, except while its body arrives.
    """

    def __init__(self, max_in_flight: int = IN_FLIGHT, measures: Measures | None = None) -> None:
        measures = measures or Measures()
        self._active = measures.active_requests
        self.in_flight = 0
        self.answered = 0  # requests, since the start
        self.refused = Refusals(measures)
        self.unread = Transfers(UNREAD_BYTES)
        self.max_held = CONNECTIONS
        self._held = 0
        self._max_in_flight = max_in_flight
        self.bodies = Transfers(BODIES_BYTES)

    def request_begins(self) -> None:
        """Count a request as in flight."""
        self.in_flight += 1
        self._active.add()

    def request_ends(self) -> None:
        """Count a request as answered."""
        self.in_flight -= 1
        self._active.add(-1)
        self.answered += 1

    @property
    def is_full(self) -> bool:
        """Whether more requests are in flight than allowed; another would only wait."""
        return self.in_flight > self._max_in_flight

    @property
    def is_idle(self) -> bool:
        """Whether no request is in flight and no body is arriving."""
        return not (self.in_flight or self.bodies)

    def check_held(self) -> None:
        """Raise Overloaded if streams and sockets hold as many connections as allowed."""
        if self._held >= self.max_held:
            raise Overloaded

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Count a connection as held by a stream or a socket within the block."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    @asynccontextmanager
    async def body(self, content: StreamReader) -> AsyncIterator[None]:
        """Read a body within the block; the request is not in flight meanwhile.

        Raises TimeoutError if the body is too slow or is cut off to make room, and Overloaded if
        too many requests are in flight once it has arrived.
        """
        body = _Body(content)
        self.in_flight -= 1
        try:
            async with body.deadline:
                self.bodies.begin(body)
                yield
        finally:
            self.bodies.end(body)
            self.in_flight += 1
        if self.is_full:
            raise Overloaded


class _Body:
    """A body that is arriving: a ``Transfer``."""

    def __init__(self, content: StreamReader) -> None:
        self.deadline = asyncio.timeout(BODY_SECONDS)
        self._content = content
        self._began = asyncio.get_running_loop().time()

    def held(self) -> int:
        return BODY_COST_BYTES + self._content.total_bytes

    def is_stalled(self, now: float) -> bool:
        seconds = now - self._began - BODY_GRACE_SECONDS
        return self._content.total_bytes < seconds * BODY_RATE

    def cut(self) -> None:
        if not self.deadline.expired():
            self.deadline.reschedule(0)
