"""Quarantine: what fails on its own is skipped for a while and tried again, and the rest goes on.

A subject is what fails: ``shard 3f``, ``webhook <id>``. A work is what was being done with it:
``sweep``, ``deliver``. A subject is logged once when its first work fails and once when all of its
works succeed again, and is counted in between.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from redis import exceptions as redis_errors

from session_service.domain.budgets import (
    QUARANTINE_FIRST_SECONDS,
    QUARANTINE_FORGOTTEN_SECONDS,
    QUARANTINE_LOG_LINES,
    QUARANTINE_LONGEST_SECONDS,
)
from session_service.domain.errors import RecordUnreadable, StoreUnavailable

_REASON_CHARACTERS = 200
_LINES_SECONDS = 60.0

log = logging.getLogger(__name__)


class _Failure(NamedTuple):
    failures: int  # in a row
    retry_at: float
    reason: str


class Quarantine:
    """The subjects whose works fail. One for each process."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._fraction = fraction  # of the jitter, from 0 to 1
        self._failing: dict[str, dict[str, _Failure]] = {}
        self._since: dict[str, float] = {}
        self._lines = _Lines(clock)
        self.total = 0  # subjects that began to fail, or were left out, since the start

    def __len__(self) -> int:
        """Return how many subjects fail now."""
        return len(self.subjects())

    def subjects(self) -> dict[str, str]:
        """Return the subjects that fail now, each with a reason, e.g. ``{"shard 3f": "…"}``."""
        self._forget_untried()
        return {
            subject: f"{work}: {failure.reason}"
            for subject, works in self._failing.items()
            for work, failure in list(works.items())[:1]
        }

    def reasons(self) -> Iterator[str]:
        """Yield what health says of them, e.g. ``shard 3f and 2 others cannot be processed``."""
        names = list(self.subjects())
        if names:
            others = len(names) - 1
            more = f" and {others} other{'s' * (others > 1)}" if others else ""
            yield f"{names[0]}{more} cannot be processed"

    @property
    def is_empty(self) -> bool:
        """Whether nothing fails: the cheap question to ask first."""
        return not self._failing

    def has(self, subject: str, work: str) -> bool:
        """Return whether the last try of this work failed."""
        return subject in self._failing and work in self._failing[subject]

    def must_wait(self, subject: str, work: str) -> bool:
        """Return whether this work is to be skipped now."""
        return self.has(subject, work) and self._clock() < self._failing[subject][work].retry_at

    def pause(self, subject: str, work: str) -> float:
        """Return the seconds until this work may be tried, or 0."""
        if not self.has(subject, work):
            return 0.0
        return max(0.0, self._failing[subject][work].retry_at - self._clock())

    def failed(self, subject: str, work: str, error: Exception) -> None:
        """Note that a work failed, and log it if it is the subject's first."""
        self._forget_untried()
        works = self._failing.get(subject)
        if works is None:
            works = self._failing[subject] = {}
            self._since[subject] = self._clock()
            self.total += 1
            self._lines.failing(subject, work, error)
        failures = works[work].failures + 1 if work in works else 1
        pause = min(QUARANTINE_FIRST_SECONDS * 2.0 ** (failures - 1), QUARANTINE_LONGEST_SECONDS)
        retry_at = self._clock() + pause * (1 + self._fraction()) / 2
        works[work] = _Failure(failures, retry_at, reason_of(error))

    def succeeded(self, subject: str, work: str) -> None:
        """Note that a work succeeded, and log it if the subject has no other that fails."""
        if self.has(subject, work):
            del self._failing[subject][work]
            if not self._failing[subject]:
                del self._failing[subject]
                self._lines.recovered(subject, self._clock() - self._since.pop(subject))

    def left_out(self, subject: str, work: str, error: Exception) -> None:
        """Log and count what is not tried again, such as an event that cannot be read."""
        self.total += 1
        self._lines.failing(subject, work, error)

    def forget(self, subject: str) -> None:
        """Drop a subject that does not exist any more."""
        self._failing.pop(subject, None)
        self._since.pop(subject, None)

    @contextmanager
    def isolating(self, subject: str, work: str) -> Iterator[None]:
        """Note whether the block succeeds; suppress every error except StoreUnavailable."""
        try:
            yield
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - one subject's failure must not stop the others
            self.failed(subject, work, error)
        else:
            self.succeeded(subject, work)

    def _forget_untried(self) -> None:
        """Drop works that nobody tries any more, such as a listing that is not asked for again."""
        before = self._clock() - QUARANTINE_FORGOTTEN_SECONDS
        for subject, works in list(self._failing.items()):
            for work, failure in list(works.items()):
                if failure.retry_at < before:
                    del works[work]
            if not works:
                self.forget(subject)


class _Lines:
    """The log lines: a defect that hits all subjects at once must not flood the log."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = 0.0
        self._left = 0

    def failing(self, subject: str, work: str, error: Exception) -> None:
        now = self._clock()
        if now >= self._until:
            self._until, self._left = now + _LINES_SECONDS, QUARANTINE_LOG_LINES
        self._left -= 1
        about = {"subject": subject, "work": work, "reason": reason_of(error)}
        if self._left < 0:
            if self._left == -1:
                log.error("more cannot be processed; not logged one by one for a minute")
        elif is_defect(error):
            log.error("defect: %s is skipped, and retried", subject, extra=about, exc_info=error)
        else:
            log.warning("%s cannot be processed; the others go on", subject, extra=about)

    def recovered(self, subject: str, seconds: float) -> None:
        about = {"subject": subject, "after_seconds": round(seconds, 1)}
        log.info("%s is processed again", subject, extra=about)


def is_defect(error: Exception) -> bool:
    """Return whether an error is a bug of ours: neither the store's reply nor a bad record."""
    return not isinstance(error, redis_errors.ResponseError | RecordUnreadable)


def reason_of(error: Exception) -> str:
    """Return what the log says of an error, e.g. ``WRONGTYPE Operation against a key…``."""
    if isinstance(error, RecordUnreadable) and error.reason:
        return error.reason[:_REASON_CHARACTERS]
    cause = error.__cause__ or error
    text = str(cause)
    if not isinstance(cause, redis_errors.ResponseError):
        text = f"{type(cause).__name__}: {text}"
    return text[:_REASON_CHARACTERS]
