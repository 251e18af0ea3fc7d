"""The quarantine: a shard or a webhook that fails is paused and retried, and the others go on.

A subject is the part that fails, e.g. ``shard 3f`` or ``webhook <id>``, and a task is an operation
on it, e.g. ``sweep`` or ``deliver``. A subject is logged once when its first task fails and once
when all of its tasks succeed again, and is counted in between.
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

_MAX_REASON_CHARACTERS = 200
_LOG_SECONDS = 60.0

log = logging.getLogger(__name__)


class _Failure(NamedTuple):
    failures: int  # in a row
    retry_at: float
    reason: str


class Quarantine:
    """The subjects that have failing tasks. There is one for each process.

    The pause after a failure doubles from QUARANTINE_FIRST_SECONDS to QUARANTINE_LONGEST_SECONDS,
    with jitter from half of it to all of it.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._fraction = fraction  # of the jitter, from 0 to 1
        self._failing: dict[str, dict[str, _Failure]] = {}
        self._since: dict[str, float] = {}
        self._lines = _LogLines(clock)
        self.total = 0  # subjects that began to fail, or were skipped, since the start

    def __len__(self) -> int:
        """Return the number of failing subjects."""
        return len(self.subjects())

    def subjects(self) -> dict[str, str]:
        """Return the reason for each failing subject, e.g. ``{"shard 3f": "sweep: …"}``."""
        self._discard_stale()
        return {
            subject: f"{task}: {failure.reason}"
            for subject, tasks in self._failing.items()
            for task, failure in list(tasks.items())[:1]
        }

    def reasons(self) -> Iterator[str]:
        """Yield the reason for health, e.g. "shard 3f and 2 others cannot be processed"."""
        names = list(self.subjects())
        if names:
            others = len(names) - 1
            more = f" and {others} other{'s' * (others > 1)}" if others else ""
            yield f"{names[0]}{more} cannot be processed"

    @property
    def is_empty(self) -> bool:
        """Whether nothing fails; it is cheaper to check than ``is_failing``."""
        return not self._failing

    def is_failing(self, subject: str, task: str) -> bool:
        """Return whether the last attempt at this task failed."""
        return subject in self._failing and task in self._failing[subject]

    def must_wait(self, subject: str, task: str) -> bool:
        """Return whether this task is paused."""
        return (
            self.is_failing(subject, task) and self._clock() < self._failing[subject][task].retry_at
        )

    def pause(self, subject: str, task: str) -> float:
        """Return the number of seconds until this task may be retried, or 0."""
        if not self.is_failing(subject, task):
            return 0.0
        return max(0.0, self._failing[subject][task].retry_at - self._clock())

    def failed(self, subject: str, task: str, error: Exception) -> None:
        """Record that a task failed; log it if the subject has no other failing task."""
        self._discard_stale()
        tasks = self._failing.get(subject)
        if tasks is None:
            tasks = self._failing[subject] = {}
            self._since[subject] = self._clock()
            self.total += 1
            self._lines.failing(subject, task, error)
        failures = tasks[task].failures + 1 if task in tasks else 1
        pause = min(QUARANTINE_FIRST_SECONDS * 2.0 ** (failures - 1), QUARANTINE_LONGEST_SECONDS)
        retry_at = self._clock() + pause * (1 + self._fraction()) / 2
        tasks[task] = _Failure(failures, retry_at, reason_of(error))

    def succeeded(self, subject: str, task: str) -> None:
        """Record that a task succeeded; log it if the subject has no failing task any more."""
        if self.is_failing(subject, task):
            del self._failing[subject][task]
            if not self._failing[subject]:
                del self._failing[subject]
                self._lines.recovered(subject, self._clock() - self._since.pop(subject))

    def skipped(self, subject: str, task: str, error: Exception) -> None:
        """Log and count a subject that is not retried, such as an event that cannot be read."""
        self.total += 1
        self._lines.failing(subject, task, error)

    def forget(self, subject: str) -> None:
        """Remove a subject that does not exist any more."""
        self._failing.pop(subject, None)
        self._since.pop(subject, None)

    @contextmanager
    def isolating(self, subject: str, task: str) -> Iterator[None]:
        """Record whether the block succeeds; suppress errors other than StoreUnavailable."""
        try:
            yield
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - one subject's failure must not stop the others
            self.failed(subject, task, error)
        else:
            self.succeeded(subject, task)

    def _discard_stale(self) -> None:
        """Remove tasks that are not attempted any more, such as a listing nobody requests again."""
        before = self._clock() - QUARANTINE_FORGOTTEN_SECONDS
        for subject, tasks in list(self._failing.items()):
            for task, failure in list(tasks.items()):
                if failure.retry_at < before:
                    del tasks[task]
            if not tasks:
                self.forget(subject)


class _LogLines:
    """Writes the log lines, at most QUARANTINE_LOG_LINES failures a minute.

    A defect that affects all subjects at once must not flood the log.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = 0.0
        self._left = 0

    def failing(self, subject: str, task: str, error: Exception) -> None:
        now = self._clock()
        if now >= self._until:
            self._until, self._left = now + _LOG_SECONDS, QUARANTINE_LOG_LINES
        self._left -= 1
        extra = {"subject": subject, "work": task, "reason": reason_of(error)}
        if self._left < 0:
            if self._left == -1:
                log.error("more cannot be processed; not logged one by one for a minute")
        elif is_defect(error):
            log.error("defect: %s is skipped, and retried", subject, extra=extra, exc_info=error)
        else:
            log.warning("%s cannot be processed; the others go on", subject, extra=extra)

    def recovered(self, subject: str, seconds: float) -> None:
        extra = {"subject": subject, "after_seconds": round(seconds, 1)}
        log.info("%s is processed again", subject, extra=extra)


def is_defect(error: Exception) -> bool:
    """Return whether an error is a bug, and neither an error of the store nor a bad record."""
    return not isinstance(error, redis_errors.ResponseError | RecordUnreadable)


def reason_of(error: Exception) -> str:
    """Return the reason for the log, e.g. "WRONGTYPE Operation against a key holding …"."""
    if isinstance(error, RecordUnreadable) and error.reason:
        return error.reason[:_MAX_REASON_CHARACTERS]
    cause = error.__cause__ or error
    text = str(cause)
    if not isinstance(cause, redis_errors.ResponseError):
        text = f"{type(cause).__name__}: {text}"
    return text[:_MAX_REASON_CHARACTERS]
