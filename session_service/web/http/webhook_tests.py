"""Tests of webhooks: a sample is sent to an endpoint at once, and its outcome returned."""

import math
import os
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from session_service.domain.budgets import (
    WEBHOOK_TESTS,
    WEBHOOK_TESTS_PER_WINDOW,
    WEBHOOK_TESTS_SECONDS,
)
from session_service.domain.errors import RateLimited
from session_service.domain.rates import SECOND, RateLimit, take
from session_service.domain.samples import Sample, sample_of
from session_service.domain.webhooks import Outcome, Webhook
from session_service.store.webhooks.queue import Delivery

Post = Callable[[Webhook, Delivery], Awaitable[Outcome]]

_NAME = "WEBHOOK_TESTS"
_LIMIT = RateLimit(WEBHOOK_TESTS_PER_WINDOW, WEBHOOK_TESTS_SECONDS)


class Tested(NamedTuple):
    """A sample that was sent, the outcome, and the time it took in milliseconds."""

    sample: Sample
    outcome: Outcome
    duration_ms: int


class WebhookTests:
    """Sends samples, outside of the queues and without repetition, by ``post``.

    All callers of a process share the ``limit``, so that none can make the service send many
    requests.
    A sample of a message has its content only ``with_content``.
    """

    def __init__(
        self,
        post: Post,
        *,
        with_content: bool = False,
        limit: RateLimit = _LIMIT,
        clock: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self._post = post
        self._with_content = with_content
        self._limit = limit
        self._clock = clock  # microseconds
        self._full_at = clock()
        self._running = 0

    async def send(self, webhook: Webhook, event_type: str) -> Tested:
        """Send a sample of a type, e.g. ``created``; raises RateLimited."""
        self._admit()
        at = time.time_ns() // 1_000_000
        sample = sample_of(event_type, at, os.urandom, with_content=self._with_content)
        self._running += 1
        began = time.monotonic()
        try:
            outcome = await self._post(webhook, Delivery(sample, 0, b"", at))
        finally:
            self._running -= 1
        return Tested(sample, outcome, round(1000 * (time.monotonic() - began)))

    def _admit(self) -> None:
        if self._running >= WEBHOOK_TESTS:
            raise RateLimited(
                f"At most {WEBHOOK_TESTS} tests of webhooks may be in progress.", 1, _NAME
            )
        now = self._clock()
        taken = take(self._limit, self._full_at, now)
        if not taken.granted:
            raise RateLimited(
                f"At most {self._limit.requests} tests of webhooks are made in"
                f" {self._limit.seconds} seconds.",
                max(1, math.ceil(taken.wait / SECOND)),
                _NAME,
            )
        self._full_at = taken.full_at
