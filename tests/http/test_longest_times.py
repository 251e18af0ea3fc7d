"""Sessions that last as long as any setting allows: no time overflows."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from session_service.domain.timeouts import TimeoutPolicy, to_ms
from session_service.settings import Settings, SettingsError
from tests.support.api import SESSIONS, Client
from tests.support.factories import session_body


def longest(name: str) -> float:
    """Return the upper bound of a setting, from the message that refuses more."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({name: "1e15"})
    found = re.search(r"at most (\d+)$", str(refused.value))
    assert found
    return float(found[1])


MINUTES = longest("SESSION_MAX_TIMEOUT_MINUTES")


@pytest.fixture
def policy() -> TimeoutPolicy:
    return Settings.from_environment({"SESSION_MAX_TIMEOUT_MINUTES": f"{MINUTES:.0f}"}).timeouts


@pytest.fixture
def retention_ms() -> int:
    return to_ms(longest("SESSION_EXPIRED_RETENTION_MINUTES"))


@pytest.fixture
def history_ms() -> int:
    return to_ms(longest("SESSION_HISTORY_RETENTION_MINUTES"))


async def test_the_longest_session_works(client: Client) -> None:
    """The longest session can be created, renewed, written to and read, with exact times."""
    times = {
        "timeoutMinutes": MINUTES,
        "maxDurationMinutes": 2 * MINUTES,
        "warningThresholdMinutes": MINUTES,
    }
    body = session_body(timeoutConfig=times)
    async with client.post(SESSIONS, json=body) as response:
        assert response.status == 201
        session = await response.json()
    url = f"{SESSIONS}/{session['sessionId']}"
    for method, path, sent, status in (
        ("POST", "/renew", None, 200),
        ("POST", "/heartbeat", None, 200),
        ("POST", "/messages", {"content": "Hello"}, 201),
        ("PATCH", "/timeout", times, 200),
        ("GET", "/messages", None, 200),
        ("GET", "", None, 200),
    ):
        async with client.request(method, url + path, json=sent) as response:
            assert (path, response.status) == (path, status)
            session = await response.json()
    assert session["timeoutConfig"]["maxDurationMinutes"] == 2 * MINUTES
    left = datetime.fromisoformat(session["expiresAt"]) - datetime.now(UTC)
    assert abs(left - timedelta(minutes=MINUTES)) < timedelta(minutes=1)
    assert timedelta(minutes=MINUTES) / timedelta(milliseconds=1) - session["timeRemaining"] >= 0
    async with client.delete(url) as response:
        assert response.status == 200


async def test_a_longer_one_is_refused_in_plain_digits(client: Client) -> None:
    """The message has the range in plain digits, without exponents."""
    times = {"timeoutMinutes": MINUTES + 1}
    body = session_body(timeoutConfig=times)
    async with client.post(SESSIONS, json=body) as response:
        assert response.status == 400
        assert f"from 5 to {MINUTES:.0f} minutes" in str(await response.json())
