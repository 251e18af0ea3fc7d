"""Quarantine: failing subjects are skipped with growing pauses, logged once, and counted."""

import logging

import pytest
from redis.exceptions import ResponseError

from session_service.domain.budgets import (
    QUARANTINE_FORGOTTEN_SECONDS,
    QUARANTINE_LOG_LINES,
    QUARANTINE_LONGEST_SECONDS,
)
from session_service.domain.errors import RecordUnreadable, StoreUnavailable
from session_service.store.quarantine import Quarantine

WRONG = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quarantine(clock: Clock) -> Quarantine:
    return Quarantine(clock, lambda: 1.0)  # no jitter


def test_pauses_grow_to_a_bound(quarantine: Quarantine, clock: Clock) -> None:
    """Pauses double from a second to a minute."""
    pauses = []
    for _ in range(8):
        quarantine.failed("shard 3f", "sweep", WRONG)
        pauses.append(quarantine.pause("shard 3f", "sweep"))
        clock.now += pauses[-1]
        assert not quarantine.must_wait("shard 3f", "sweep")
    assert pauses == [1, 2, 4, 8, 16, 32, QUARANTINE_LONGEST_SECONDS, QUARANTINE_LONGEST_SECONDS]


def test_pauses_have_jitter(clock: Clock) -> None:
    """A pause is at least half of its length, so that nodes do not retry in step."""
    quarantine = Quarantine(clock, lambda: 0.0)
    quarantine.failed("shard 3f", "sweep", WRONG)
    assert quarantine.pause("shard 3f", "sweep") == 0.5


def test_a_subject_is_logged_once_and_once_when_it_is_back(
    quarantine: Quarantine, caplog: pytest.LogCaptureFixture
) -> None:
    """A subject is logged once when it fails and once when it recovers, for all its tasks."""
    caplog.set_level(logging.INFO)
    for _ in range(3):
        for work in ("sweep", "count"):
            quarantine.failed("shard 3f", work, WRONG)
    assert [r.getMessage() for r in caplog.records] == [
        "shard 3f cannot be processed; the others go on"
    ]
    assert (len(quarantine), quarantine.total) == (1, 1)
    assert quarantine.subjects() == {"shard 3f": f"sweep: {WRONG}"}
    quarantine.succeeded("shard 3f", "sweep")
    assert len(quarantine) == 1
    quarantine.succeeded("shard 3f", "count")
    assert [r.getMessage() for r in caplog.records][1:] == ["shard 3f is processed again"]
    assert (len(quarantine), quarantine.total) == (0, 1)


def test_works_wait_on_their_own(quarantine: Quarantine) -> None:
    """Each task of a subject has its own pause: a shard that cannot be swept is still read."""
    quarantine.failed("shard 3f", "sweep", WRONG)
    assert quarantine.must_wait("shard 3f", "sweep")
    assert not quarantine.must_wait("shard 3f", "read")
    assert not quarantine.must_wait("shard 40", "sweep")


def test_a_defect_is_logged_with_its_trace(
    quarantine: Quarantine, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect is logged with its traceback, and bad data without."""
    unreadable = RecordUnreadable()
    unreadable.__cause__ = ValueError("theirs")
    for subject, error in (("shard 3f", TypeError("ours")), ("shard 40", unreadable)):
        with quarantine.isolating(subject, "sweep"):
            raise error
    defect, data = caplog.records
    assert (defect.levelname, bool(defect.exc_info)) == ("ERROR", True)
    assert (data.levelname, bool(data.exc_info)) == ("WARNING", False)
    assert data.__dict__["reason"] == "ValueError: theirs"


def test_a_store_that_is_away_is_nobody_s_failure(quarantine: Quarantine) -> None:
    """An unavailable store is raised, and no failure of the subject."""
    with pytest.raises(StoreUnavailable), quarantine.isolating("shard 3f", "sweep"):
        raise StoreUnavailable("gone")
    assert quarantine.is_empty


def test_what_nobody_tries_any_more_does_not_count(quarantine: Quarantine, clock: Clock) -> None:
    """A failure that is not tried again, such as a listing, stops counting."""
    quarantine.failed("shard 3f", "list", WRONG)
    clock.now += QUARANTINE_FORGOTTEN_SECONDS
    assert len(quarantine) == 1
    clock.now += 2
    assert len(quarantine) == 0


def test_a_failure_of_everything_does_not_flood_the_log(
    quarantine: Quarantine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """All failures are counted, and a minute has a bounded number of log lines."""
    for n in range(256):
        quarantine.failed(f"shard {n:02x}", "sweep", WRONG)
    assert len(caplog.records) == QUARANTINE_LOG_LINES + 1
    assert len(quarantine) == 256
    clock.now += 60
    quarantine.failed("webhook", "deliver", WRONG)
    assert len(caplog.records) == QUARANTINE_LOG_LINES + 2


def test_health_says_what_fails(quarantine: Quarantine) -> None:
    """Health names the failures in one sentence, without the store's replies."""
    all_reasons: list[str] = []
    for name in ("shard 3f", "shard 40", "shard 41"):
        all_reasons += quarantine.reasons()
        quarantine.failed(name, "sweep", WRONG)
    all_reasons += quarantine.reasons()
    assert all_reasons == [
        "shard 3f cannot be processed",
        "shard 3f and 1 other cannot be processed",
        "shard 3f and 2 others cannot be processed",
    ]
