"""Sessions that expire (contract, "One error shape" and "End")."""

from typing import Any

import pytest

from session_service.domain.timeouts import TimeoutPolicy
from session_service.store.sessions.deadlines import Deadlines
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.waiting import wait_until

SOON = {"timeoutMinutes": 0.001, "maxDurationMinutes": 1}  # 60 ms


@pytest.fixture
def policy() -> TimeoutPolicy:
    """Timeouts from 30 ms on."""
    return TimeoutPolicy(min_timeout=0.0005, max_timeout=60, default_warning=0.0001)


async def create_expired(client: Client) -> str:
    """Create a session and wait until it has expired; return its URL."""
    url = f"{SESSIONS}/{(await create(client, timeoutConfig=SOON))['sessionId']}"

    async def is_gone() -> bool:
        async with client.get(url) as response:
            return response.status != 200

    await wait_until(is_gone)
    return url


@pytest.mark.parametrize("swept", [False, True])
async def test_an_expired_session_is_gone(
    client: Client, deadlines: Deadlines, swept: bool
) -> None:
    """Every operation is a 410, before and after the sweep; ending it is a 404."""
    url = await create_expired(client)
    if swept:
        assert (await deadlines.sweep()).expired == 1
    for response in (
        await client.get(url),
        await client.post(f"{url}/renew"),
        await client.post(f"{url}/heartbeat"),
        await client.patch(f"{url}/timeout", json={"timeoutMinutes": 60}),
        await client.patch(url, json={"metadata": {"a": 1}}),
        await client.post(f"{url}/messages", json={"content": "Hello"}),
        await client.get(f"{url}/messages"),
    ):
        await assert_error(response, 410, "SESSION_EXPIRED")
    await assert_error(await client.delete(url), 404, "SESSION_NOT_FOUND")
    await assert_error(await client.get(url), 410, "SESSION_EXPIRED")


async def test_an_expired_session_is_not_listed(client: Client, deadlines: Deadlines) -> None:
    """It counts only as expired, before and after the sweep."""
    lasting = await create(client)
    await create_expired(client)
    for _ in range(2):
        listed = await (await client.get(SESSIONS)).json()
        assert [s["sessionId"] for s in listed["sessions"]] == [lasting["sessionId"]]
        assert (listed["total"], listed["stats"]) == (
            1,
            {"totalSessions": 2, "activeSessions": 1, "expiredSessions": 1},
        )
        await deadlines.sweep()


async def test_activity_keeps_a_session_alive(client: Client) -> None:
    """With heartbeats a session outlives its timeout."""
    session = await create(client, timeoutConfig={"timeoutMinutes": 0.005})  # 300 ms
    url = f"{SESSIONS}/{session['sessionId']}"

    async def has_outlived_its_first_deadline() -> bool:
        info = await (await client.post(f"{url}/heartbeat")).json()
        return bool(info["lastActivity"] > session["expiresAt"])

    assert await wait_until(has_outlived_its_first_deadline)


async def test_a_deadline_in_the_past_is_refused(client: Client) -> None:
    """A change that would end the session at once is a 400 without effect."""
    session = await create(client, timeoutConfig={"timeoutMinutes": 1})
    url = f"{SESSIONS}/{session['sessionId']}"
    change = {"timeoutMinutes": 0.0005, "warningThresholdMinutes": 0.0005}

    async def refused() -> bool:
        """Return whether the change is refused, as it is 30 ms after the creation."""
        info = await (await client.get(url)).json()
        return bool(info["timeRemaining"] < 59_900)

    await wait_until(refused)
    error = await assert_error(
        await client.patch(f"{url}/timeout", json=change), 400, "VALIDATION_ERROR"
    )
    assert "expiresAt in the past" in error["message"]
    assert (await (await client.get(url)).json())["expiresAt"] == session["expiresAt"]


@pytest.mark.parametrize("swept", [False, True])
async def test_the_410_says_when_the_session_expired(
    client: Client, deadlines: Deadlines, swept: bool
) -> None:
    """Every 410 has the session's expiresAt, before and after the sweep."""
    session = await create(client, timeoutConfig=SOON)
    url = f"{SESSIONS}/{session['sessionId']}"

    async def is_over() -> bool:
        async with client.get(url) as response:
            return response.status == 410

    await wait_until(is_over)
    if swept:
        await deadlines.sweep()
    for response in (await client.get(url), await client.post(f"{url}/heartbeat")):
        error = await assert_error(response, 410, "SESSION_EXPIRED")
        assert f"expiresAt was {session['expiresAt']}" in error["details"]


class TestWithShortRetention:
    """A service that keeps expired sessions for 200 ms."""

    @pytest.fixture
    def retention_ms(self) -> int:
        return 200

    @pytest.mark.parametrize("swept", [False, True])
    async def test_after_its_retention_nobody_knows_it(
        self, client: Client, deadlines: Deadlines, swept: bool
    ) -> None:
        """After its retention the 410 becomes a 404, with or without a sweep."""
        url = await create_expired(client)
        if swept:
            await deadlines.sweep()

        async def status() -> Any:
            async with client.get(url) as response:
                return response.status == 404

        await wait_until(status)
        await deadlines.sweep()
        listed = await (await client.get(SESSIONS)).json()
        assert listed["stats"]["totalSessions"] == 0
