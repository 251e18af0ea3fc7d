"""The session rules as arithmetic, and ids."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.errors import ValidationFailed
from session_service.domain.ids import SHARDS, new_id, shard_of_session, shard_of_user
from session_service.domain.timeouts import (
    TimeoutConfig,
    TimeoutPolicy,
    to_minutes,
    to_ms,
)
from tests.support.factories import ID

POLICY = TimeoutPolicy()
MINUTES = st.floats(5, 1440)


@given(MINUTES)
def test_minutes_are_kept_to_the_millisecond(minutes: float) -> None:
    """Minutes are returned unchanged to the millisecond, whole minutes as integers."""
    assert abs(to_minutes(to_ms(minutes)) - minutes) <= 0.5 / 60_000 + 1e-9
    assert isinstance(to_minutes(to_ms(round(minutes))), int)


@given(
    timeout=st.none() | MINUTES,
    duration=st.none() | st.floats(5, 2880),
    warning=st.none() | st.floats(0, 1440, exclude_min=True),
)
def test_what_is_resolved_obeys_the_rules(
    timeout: float | None, duration: float | None, warning: float | None
) -> None:
    """Explicit values are kept, or refused with the field's name; defaults adapt to them."""
    change = POLICY.change(timeout, None, duration, warning)
    longest = to_ms(timeout or 30)
    if (change.max_duration_ms or longest) < longest or (change.warning_ms or 0) > longest:
        with pytest.raises(ValidationFailed, match=r"maxDurationMinutes|warningThresholdMinutes"):
            POLICY.resolve(change)
        return
    config = POLICY.resolve(change)
    assert 0 < config.warning_ms <= config.timeout_ms <= config.max_duration_ms
    assert config.timeout_ms == to_ms(30 if timeout is None else timeout)
    if duration is None:
        assert config.max_duration_ms == max(720 * 60_000, config.timeout_ms)
    if warning is None:
        assert config.warning_ms == min(5 * 60_000, config.timeout_ms)


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(0, 10**9))
def test_the_deadline_is_the_earlier_of_the_two(timeout: int, duration: int, idle: int) -> None:
    """The deadline is the earlier of idle timeout and maximum duration."""
    config = TimeoutConfig(timeout, True, duration, 1)
    assert config.expires_at(0, idle) == min(idle + timeout, duration)


def test_a_users_sessions_share_a_shard() -> None:
    """The shard of a user never changes; the expected ones are stored in Redis."""
    assert shard_of_user("6f1c0f52-7a3e-4c55-9d0a-2b7f4e8a1c90") == "9e"
    assert shard_of_user("00000000-0000-0000-0000-000000000000") == "12"


@pytest.mark.parametrize("shard", ["00", "3f", "ff"])
def test_an_id_is_a_uuid_that_names_its_shard(shard: str) -> None:
    """An id is a UUID of version 4 whose first two digits are the shard."""
    ids = [new_id(shard, os.urandom) for _ in range(400)]
    assert all(
        re.fullmatch(rf"{shard}\w{{6}}-\w{{4}}-4\w{{3}}-[89ab]\w{{3}}-\w{{12}}", i) for i in ids
    )
    assert {shard_of_session(i) for i in ids} == {shard}
    varying = [len({i[n] for i in ids}) for n in range(36)]
    assert [n for n in range(36) if varying[n] == 1] == [0, 1, 8, 13, 14, 18, 23]
    assert varying[19] == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        SHARDS[1],
        "3F2504E0-4F89-41D3-9A0C-0305E82C3301",
        f"{ID}\n",
    ],
)
def test_other_text_names_no_shard(text: str) -> None:
    """Only an id that this service could have made is an id."""
    assert shard_of_session(text) is None
