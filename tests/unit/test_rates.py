"""Limits on requests: how they are written, and the arithmetic of their buckets."""

from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.rates import SECOND, RateLimit, Standing, take

LIMITS = st.builds(RateLimit, st.integers(1, 1000), st.integers(1, 100))
PAUSES = st.one_of(st.integers(0, 10), st.integers(0, SECOND), st.integers(0, 200 * SECOND))


class Model(NamedTuple):
    """A bucket that is filled continuously: as simple, and as exact, as can be."""

    limit: RateLimit
    level: Fraction  # requests that are there

    def later(self, microseconds: int) -> "Model":
        gained = Fraction(microseconds * self.limit.requests, self.limit.window)
        return self._replace(level=min(self.level + gained, Fraction(self.limit.requests)))

    def without(self, taken: int) -> "Model":
        return self._replace(level=self.level - taken)


@given(LIMITS, st.lists(st.tuples(PAUSES, st.integers(1, 20)), max_size=60))
def test_a_bucket_is_that_of_the_model(limit: RateLimit, steps: list[tuple[int, int]]) -> None:
    """As many are granted as a bucket has that fills continuously; rounding adds no request."""
    now = full_at = 1_767_225_600 * SECOND
    model = Model(limit, Fraction(limit.requests))
    rounded = Fraction(0)  # of a request, by which the model may differ
    for pause, wanted in steps:
        now += pause
        model = model.later(pause)
        rounded += Fraction(2 * limit.requests, limit.window)
        taken = take(limit, full_at, now, wanted)
        most = min(wanted, int(model.level + rounded))
        assert min(wanted, max(int(model.level - rounded), 0)) <= taken.granted <= most
        full_at = taken.full_at
        model = model.without(taken.granted)
        assert model.level - rounded <= taken.left + 1
        assert taken.left <= model.level + rounded


@given(LIMITS, st.integers(0, 1000))
def test_one_more_is_there_after_the_wait(limit: RateLimit, wanted: int) -> None:
    """After ``wait`` one more can be taken than was left, and not much earlier."""
    taken = take(limit, 0, SECOND, wanted)
    after = take(limit, taken.full_at, SECOND + taken.wait, taken.left + 1)
    assert after.granted == min(taken.left + 1, limit.requests)
    if taken.wait > 2:
        assert take(limit, taken.full_at, SECOND + taken.wait - 2, limit.requests).granted == (
            taken.left
        )


def test_a_clock_that_is_set_back_empties_a_bucket_at_most() -> None:
    """A bucket that is full in a year is an empty one: a request comes back after its interval."""
    limit = RateLimit(10, 1)
    taken = take(limit, 10**15, 0)
    assert taken[:3] == (0, 0, SECOND // 10)


@pytest.mark.parametrize(
    ("text", "requests", "seconds"), [("100/60s", 100, 60), ("1/86400s", 1, 86400)]
)
def test_a_limit_is_requests_in_seconds(text: str, requests: int, seconds: int) -> None:
    """A limit is read from its text, which it has as ``str``."""
    assert RateLimit.parse(text) == RateLimit(requests, seconds)
    assert str(RateLimit(requests, seconds)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "100", "100/60", "0/1s", "1/0s", "-1/1s", "1.5/1s", "1/1m", " 1/1s", "1 /1s"),
        *("1000001/60s", "1/86401s", "100001/1s", "\N{SUPERSCRIPT TWO}/1s"),
    ],
)
def test_other_texts_are_no_limits(text: str) -> None:
    """Other units, fractions and numbers out of range are refused, with what is allowed."""
    with pytest.raises(ValueError, match=r"<requests>/<seconds>s such as 100/60s"):
        RateLimit.parse(text)


def test_a_refusal_names_its_setting() -> None:
    """The error of a refused request has the limit, its setting, and when to come back."""
    standing = Standing("user", RateLimit(100, 60), 0, 1, is_granted=False)
    error = standing.refusal
    assert "100 requests in 60 seconds (setting RATE_LIMIT_USER)" in error.details
    assert (error.setting, error.retry_after) == ("RATE_LIMIT_USER", 1)
    assert standing._replace(wait=1_000_001).refusal.retry_after == 2
