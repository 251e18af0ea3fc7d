"""Reading, renewing, heartbeats (contract, "Session info" and "Renewal, heartbeat, timeout")."""

from typing import Any

import pytest

from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.moments import ms
from tests.support.waiting import wait_until

UNTIL_MAXIMUM = {"timeoutMinutes": 10, "maxDurationMinutes": 10}


async def made(client: Client, **config: Any) -> str:
    return f"{SESSIONS}/{(await create(client, timeoutConfig=config))['sessionId']}"


async def info(client: Client, url: str) -> dict[str, Any]:
    body: dict[str, Any] = await (await client.get(url)).json()
    return body


async def once_later(client: Client, url: str) -> dict[str, Any]:
    """Return the info once the store's clock has advanced since the creation."""

    async def later() -> dict[str, Any] | None:
        body = await info(client, url)
        lifetime = ms(body["expiresAt"]) - ms(body["lastActivity"])
        return body if body["timeRemaining"] < lifetime - 2 else None

    body: dict[str, Any] = await wait_until(later)
    return body


async def test_the_info_has_all_members(client: Client) -> None:
    """The info of a new session has all documented members."""
    created = await create(client, metadata={"a": 1})
    body = await info(client, f"{SESSIONS}/{created['sessionId']}")
    assert isinstance(body["timeRemaining"], int)
    assert body.pop("timeRemaining") in range(1_790_000, 1_800_001)
    assert body == {
        **created,
        "lastActivity": created["createdAt"],
        "renewalCount": 0,
        "isNearExpiration": False,
    }


@pytest.mark.parametrize(("warning", "is_near"), [(29, False), (30, True)])
async def test_near_expiration_is_by_the_sessions_own_threshold(
    client: Client, warning: float, is_near: bool
) -> None:
    """A session is near expiration from its own warning threshold on."""
    body = await info(client, await made(client, warningThresholdMinutes=warning))
    assert body["isNearExpiration"] is is_near


@pytest.mark.parametrize("path", ["", "/messages"])
async def test_reading_is_no_activity(client: Client, path: str) -> None:
    """Reading a session does not delay its expiry."""
    url = await made(client)
    before = await once_later(client, url)
    await client.get(url + path)
    after = await info(client, url)
    assert {**after, "timeRemaining": 0} == {**before, "timeRemaining": 0}


@pytest.mark.parametrize("auto_renew", [True, False])
async def test_renewing_works_whatever_auto_renew_says(client: Client, auto_renew: bool) -> None:
    """A renewal sets the deadline to now plus the timeout and is counted, without autoRenew too."""
    url = await made(client, autoRenew=auto_renew)
    before = await once_later(client, url)
    response = await client.post(f"{url}/renew")
    after = await response.json()
    assert (response.status, set(after)) == (200, set(before))
    assert after["renewalCount"] == 1
    assert ms(after["lastActivity"]) > ms(before["lastActivity"])
    assert ms(after["expiresAt"]) == ms(after["lastActivity"]) + 30 * 60_000
    assert {**await info(client, url), "timeRemaining": 0} == {**after, "timeRemaining": 0}


async def test_every_renewal_is_counted(client: Client) -> None:
    """Renewals on request, by heartbeats and by messages are counted together."""
    url = await made(client)
    await client.post(f"{url}/renew")
    await client.post(f"{url}/heartbeat")
    sent = await client.post(f"{url}/messages", json={"content": "Hello"})
    assert (await sent.json())["sessionStatus"]["renewalCount"] == 3
    assert (await info(client, url))["renewalCount"] == 3


async def test_at_the_maximum_duration_nothing_is_left_to_renew(client: Client) -> None:
    """At the maximum duration a renewal is a 422 without effect."""
    url = await made(client, **UNTIL_MAXIMUM)
    before = await once_later(client, url)
    error = await assert_error(await client.post(f"{url}/renew"), 422, "SESSION_RENEWAL_FAILED")
    assert "maxDurationMinutes is 10" in error["details"]
    after = await info(client, url)
    assert {**after, "timeRemaining": 0} == {**before, "timeRemaining": 0}


async def test_a_renewal_is_capped_by_the_maximum_duration(client: Client) -> None:
    """No renewal moves the deadline beyond creation plus maximum duration."""
    url = await made(client, timeoutMinutes=10, maxDurationMinutes=10.00001)
    await once_later(client, url)
    body = await (await client.post(f"{url}/renew")).json()
    assert body["renewalCount"] == 1
    assert ms(body["expiresAt"]) == ms(body["createdAt"]) + 600_001
    await assert_error(await client.post(f"{url}/renew"), 422, "SESSION_RENEWAL_FAILED")


@pytest.mark.parametrize(
    ("config", "renewals"), [({}, 1), ({"autoRenew": False}, 0), (UNTIL_MAXIMUM, 0)]
)
async def test_a_heartbeat_is_activity_and_renews_if_it_may(
    client: Client, config: dict[str, Any], renewals: int
) -> None:
    """A heartbeat sets lastActivity, and renews with autoRenew if that extends the deadline."""
    url = await made(client, **config)
    before = await once_later(client, url)
    response = await client.post(f"{url}/heartbeat")
    after = await response.json()
    assert (response.status, set(after)) == (200, set(before))
    assert after["renewalCount"] == renewals
    assert ms(after["lastActivity"]) > ms(before["lastActivity"])
    gained = ms(after["expiresAt"]) - ms(before["expiresAt"])
    assert gained == (ms(after["lastActivity"]) - ms(before["lastActivity"])) * renewals
    assert (await info(client, url))["lastActivity"] == after["lastActivity"]


@pytest.mark.parametrize("body", [b"", b"{}", b"not json"])
@pytest.mark.parametrize("action", ["renew", "heartbeat"])
async def test_a_body_means_nothing_to_them(client: Client, action: str, body: bytes) -> None:
    """A body is ignored."""
    url = await made(client)
    assert (await client.post(f"{url}/{action}", data=body)).status == 200
