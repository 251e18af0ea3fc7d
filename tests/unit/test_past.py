"""Which positions remain valid after a store's clock was set back."""

import random

import pytest

from session_service.domain.events import EventId
from session_service.store.events.past import ClockWatch, Doubt, Past

C = 1_764_000_000_000  # the wall clock when the monotonic clock is at 1000 s


@pytest.mark.parametrize("step", [50, 2000, 25_000, 300_000])
@pytest.mark.parametrize("away_seconds", [0.1, 5])
def test_a_step_back_is_seen_and_covers_every_position_that_comes_again(
    step: int, away_seconds: float
) -> None:
    """A step back is detected, and covers every position that may be assigned again."""
    watch = ClockWatch()
    now = 1000.0
    latest = 0
    for _ in range(20):
        sent = now
        now += random.random() / 200
        latest = C + int(1000 * (now - 1000))
        now += random.random() / 200
        assert watch.observe("", latest, sent, now) is None
        now += 0.05
    stepped_at = now
    now += away_seconds
    if step <= 100 * away_seconds:
        return  # as small as the error of a slow clock
    clock = C + int(1000 * (now - 1000)) - step
    doubt = watch.observe("", clock, now - 0.001, now + 0.001)
    assert doubt is not None
    first_new = C + int(1000 * (stepped_at - 1000)) - step
    last_old = C + int(1000 * (stepped_at - 1000))
    assert doubt.after < first_new
    assert doubt.until >= last_old
    assert watch.observe("", clock + 100, now + 0.1, now + 0.101) is None


def test_a_clock_that_runs_slower_or_jumps_ahead_did_not_go_back() -> None:
    """A clock slewed by 8 %, read slowly or set forward has not gone back."""
    watch = ClockWatch()
    for n in range(100):
        now = 1000 + n / 10
        clock = C + int(92 * n)
        assert watch.observe("", clock, now - random.random(), now + random.random()) is None
    assert watch.observe("", C + 3_600_000, 1010.1, 1010.2) is None
    assert watch.observe("another", C - 3_600_000, 1010.3, 1010.4) is None


def test_a_past_is_read_as_it_was_written() -> None:
    """A past is parsed as it was formatted; garbage is none."""
    past = Past(b"1764000000.5", 4, 3, Doubt(1, 2))
    assert Past.parse(b"1764000000.5 4 3 1 2") == past
    for other in (b"", b"1764000000123", b"x 1 2 3", b"x 1 2 3 y", b"x 1 2 3 4 5"):
        assert Past.parse(other) is None


def test_a_past_is_whole_until_something_is_trimmed() -> None:
    """An outbox has all events if ``gone`` is the moment at which it began, by its epoch."""
    assert Past(b"1764000000.5123", 4, 1764000000005, Doubt(0, 0)).is_whole
    assert not Past(b"1764000000.5123", 4, 1764000000006, Doubt(0, 0)).is_whole
    assert not Past(b"x", 4, 1764000000005, Doubt(0, 0)).is_whole


def test_a_position_is_covered_if_nothing_behind_it_is_gone_or_doubtful() -> None:
    """A position is valid if no later event is trimmed or doubtful, to the millisecond."""
    past = Past(b"x", 0, 100, Doubt(200, 300))
    assert past.covers(EventId.before(100), "3f")
    assert not past.covers(EventId.before(99), "3f")
    assert past.covers(EventId(99, "40", 0), "3f")
    assert not past.covers(EventId(99, "3f", 0), "3f")
    assert not past.covers(EventId(99, "3e", 0), "3f")
    assert past.covers(EventId(200, "3f", 0), "3f")
    assert not past.covers(EventId(201, "3f", 0), "3f")
    assert not past.covers(EventId(300, "3f", 0), "3f")
    assert past.covers(EventId(301, "3f", 0), "3f")
    assert Doubt(150, 250).merged_with(past.doubt) == Doubt(150, 300)
