"""Reading, renewing, heartbeats, changes of the timeout (contract, "Session info" and after)."""

from datetime import datetime
from typing import Any

import pytest

from tests.api import SESSIONS, Client, assert_error, create

UNTIL_MAXIMUM = {"timeoutMinutes": 10, "maxDurationMinutes": 10}


def ms(text: str) -> int:
    """Read a time of the API as epoch milliseconds."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


async def made(client: Client, **config: Any) -> str:
    return f"{SESSIONS}/{(await create(client, timeoutConfig=config))['sessionId']}"


async def test_the_info_has_all_members(client: Client) -> None:
    """What a new session says of itself."""
    created = await create(client, metadata={"a": 1})
    info = await (await client.get(f"{SESSIONS}/{created['sessionId']}")).json()
    assert info.pop("timeRemaining") in range(1_790_000, 1_800_001)
    assert info == {
        **created,
        "lastActivity": created["createdAt"],
        "renewalCount": 0,
        "isNearExpiration": False,
    }


@pytest.mark.parametrize(("warning", "is_near"), [(29, False), (30, True)])
async def test_near_expiration_is_by_the_sessions_own_threshold(
    client: Client, warning: float, is_near: bool
) -> None:
    """A session is near expiration from its warning threshold on."""
    info = await (await client.get(await made(client, warningThresholdMinutes=warning))).json()
    assert info["isNearExpiration"] is is_near


@pytest.mark.parametrize("auto_renew", [True, False])
async def test_renewing_works_whatever_auto_renew_says(client: Client, auto_renew: bool) -> None:
    """The deadline is the renewal plus the timeout, and the renewal is counted."""
    url = await made(client, autoRenew=auto_renew)
    info = await (await client.post(f"{url}/renew")).json()
    assert info["renewalCount"] == 1
    assert ms(info["expiresAt"]) == ms(info["lastActivity"]) + 30 * 60_000


async def test_at_the_maximum_duration_nothing_is_left_to_renew(client: Client) -> None:
    """That is a 422, and changes nothing."""
    url = await made(client, **UNTIL_MAXIMUM)
    before = await (await client.get(url)).json()
    await assert_error(await client.post(f"{url}/renew"), 422, "SESSION_RENEWAL_FAILED")
    after = await (await client.get(url)).json()
    assert {**after, "timeRemaining": 0} == {**before, "timeRemaining": 0}


async def test_a_renewal_is_capped_by_the_maximum_duration(client: Client) -> None:
    """The deadline never passes creation plus maximum duration, and one renewal reaches it."""
    url = await made(client, timeoutMinutes=10, maxDurationMinutes=10.00001)
    info = await (await client.post(f"{url}/renew")).json()
    while info["renewalCount"] and ms(info["expiresAt"]) < ms(info["createdAt"]) + 600_001:
        info = await (await client.post(f"{url}/renew")).json()
    assert ms(info["expiresAt"]) == ms(info["createdAt"]) + 600_001
    await assert_error(await client.post(f"{url}/renew"), 422, "SESSION_RENEWAL_FAILED")


@pytest.mark.parametrize(
    ("config", "renewals"), [({}, 1), ({"autoRenew": False}, 0), (UNTIL_MAXIMUM, 0)]
)
async def test_a_heartbeat_is_activity_and_renews_if_it_may(
    client: Client, config: dict[str, Any], renewals: int
) -> None:
    """It sets lastActivity; a renewal happens with autoRenew and something to gain."""
    url = await made(client, **config)
    before = await (await client.get(url)).json()
    answer = await client.post(f"{url}/heartbeat")
    info = await answer.json()
    assert answer.status == 200
    assert info["renewalCount"] == renewals
    assert ms(info["lastActivity"]) >= ms(before["lastActivity"])
    if not renewals:
        assert info["expiresAt"] == before["expiresAt"]


async def test_a_change_leaves_what_is_not_given(client: Client) -> None:
    """Each field changes alone, and the deadline follows from the last renewal."""
    url = await made(client)
    created = await (await client.get(url)).json()
    for change in (
        {"timeoutMinutes": 60},
        {"autoRenew": False},
        {"maxDurationMinutes": 90},
        {"warningThresholdMinutes": 1.5},
        {},
    ):
        before = await (await client.get(url)).json()
        after = await (await client.patch(f"{url}/timeout", json=change)).json()
        assert after["timeoutConfig"] == {**before["timeoutConfig"], **change}
        assert after["lastActivity"] == created["lastActivity"]
        assert after["renewalCount"] == 0
    assert ms(after["expiresAt"]) == ms(created["createdAt"]) + 60 * 60_000


async def test_a_shorter_maximum_duration_cuts_the_deadline(client: Client) -> None:
    """The deadline is the earlier of the two."""
    url = await made(client, timeoutMinutes=60)
    change = {"timeoutMinutes": 20, "maxDurationMinutes": 20}
    info = await (await client.patch(f"{url}/timeout", json=change)).json()
    assert ms(info["expiresAt"]) == ms(info["createdAt"]) + 20 * 60_000


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"timeoutMinutes": 1}, "timeoutMinutes"),
        ({"timeoutMinutes": 1000}, "maxDurationMinutes"),
        ({"timeoutMinutes": "10"}, "timeoutMinutes"),
        ({"timeoutMinutes": None}, "timeoutMinutes"),
        ({"maxDurationMinutes": 29}, "maxDurationMinutes"),
        ({"maxDurationMinutes": 3000}, "maxDurationMinutes"),
        ({"warningThresholdMinutes": 31}, "warningThresholdMinutes"),
        ({"warningThresholdMinutes": 0}, "warningThresholdMinutes"),
        ({"autoRenew": "yes"}, "autoRenew"),
    ],
)
async def test_a_change_that_breaks_a_rule_changes_nothing(
    client: Client, change: dict[str, Any], field: str
) -> None:
    """It is a 400 that names the field, and the session is as it was."""
    url = await made(client)
    before = await (await client.get(url)).json()
    answer = await client.patch(f"{url}/timeout", json=change)
    error = await assert_error(answer, 400, "VALIDATION_ERROR")
    assert error["message"].startswith(field)
    after = await (await client.get(url)).json()
    assert after["timeoutConfig"] == before["timeoutConfig"]
    assert after["expiresAt"] == before["expiresAt"]
