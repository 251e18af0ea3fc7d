"""When the Python client sends the heartbeats of a session that it keeps alive."""

from datetime import UTC, datetime, timedelta

import pytest

from session_service.api.sessions import SessionInfo
from session_service.client import ConnectionFailed, Forbidden, RateLimited
from session_service.client.live_session import is_kept, seconds_to_next, seconds_to_retry
from session_service.domain.timeouts import TimeoutInfo
from tests.support.factories import new_uuid

MINUTE = 60.0
FAR = datetime(2031, 5, 17, tzinfo=UTC)  # the clock of the service is not that of this machine


def session(
    left: float,
    *,
    timeout: float = 30,
    warning: float = 5,
    auto_renew: bool = True,
    idle: float = 0,
) -> SessionInfo:
    """A session that expires in ``left`` minutes, ``idle`` minutes after its last activity."""
    session_id = new_uuid()
    return SessionInfo(
        session_id=session_id,
        channel_id=session_id,
        agent_id=new_uuid(),
        user_id=new_uuid(),
        created_at=(FAR - timedelta(hours=1)).isoformat(),
        last_activity=(FAR - timedelta(minutes=idle)).isoformat(),
        expires_at=(FAR + timedelta(minutes=left)).isoformat(),
        timeout_config=TimeoutInfo(timeout, auto_renew, 720, warning),
        renewal_count=0,
        time_remaining=round(left * 60_000),
        is_near_expiration=left <= warning,
        metadata={},
    )


@pytest.mark.parametrize(
    ("info", "minutes"),
    [
        (session(30), 5),  # at most
        (session(12, timeout=12), 3.5),  # half of the time until the warning
        (session(9, timeout=9, warning=1), 3),  # a third of the timeout
        (session(5, timeout=5), 0.5),  # always near its end: a tenth of the timeout
        (session(5, timeout=5, warning=4.999), 0.5),
        (session(29, timeout=30, idle=1), 5),  # found after its last heartbeat
    ],
)
def test_a_session_that_is_renewed(info: SessionInfo, minutes: float) -> None:
    """Heartbeats come before the warning if there is time, and less often than ten a timeout."""
    assert is_kept(info)
    waits = [seconds_to_next(info) for _ in range(20)]
    assert 0.9 * minutes * MINUTE <= min(waits)
    assert max(waits) <= minutes * MINUTE
    assert len(set(waits)) > 1


@pytest.mark.parametrize(
    ("info", "seconds"),
    [
        (session(29, auto_renew=False), 4.5 * MINUTE),  # nothing is due before the usual heartbeat
        (session(7, auto_renew=False), 2 * MINUTE),  # the warning
        (session(7), 2 * MINUTE),  # the maximum duration is near
        (session(4, auto_renew=False), 2 * MINUTE),  # its settings may have changed by then
        (session(0.5), 15),
        (session(1 / 60), 1),  # the expiry
        (session(0), 0),
    ],
)
def test_a_session_that_ends(info: SessionInfo, seconds: float) -> None:
    """The warning and the expiry are noticed when they are due, and there is no busy loop."""
    assert not is_kept(info)
    assert max(seconds, 0.05) <= seconds_to_next(info) <= seconds * 1.12 + 0.06


def rate_limited(retry_after: float) -> RateLimited:
    return RateLimited("RATE_LIMITED", "No", status=429, retry_after=retry_after)


@pytest.mark.parametrize("left", [600, 20, 0.5, -5])
def test_an_outage_is_tried_often(left: float) -> None:
    """A heartbeat comes within 8 s of the end of an outage."""
    for failures in range(12):
        assert 0.1 < seconds_to_retry(ConnectionFailed(), failures, left) <= 8


def test_a_session_is_not_lost_to_retry_after() -> None:
    """It is honoured if the session lives long enough; else heartbeats come before the expiry."""
    assert 30 <= seconds_to_retry(rate_limited(30), 0, 600) < 40
    assert seconds_to_retry(rate_limited(3600), 0, 600) == 300
    assert seconds_to_retry(rate_limited(3600), 0, 0.1) == 1


def test_a_refusal_is_not_met_often() -> None:
    """A revoked key may be valid again before the expiry, but is tried a few times only."""
    left, tries = 1500.0, 0
    refusal = Forbidden("FORBIDDEN", "No", status=403)
    while left > 0:
        left -= seconds_to_retry(refusal, tries, left)
        tries += 1
    assert 5 <= tries <= 15
