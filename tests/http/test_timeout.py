"""``PATCH .../timeout`` (contract, "Renewal, heartbeat, timeout")."""

from typing import Any

import pytest

from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.moments import ms
from tests.support.waiting import wait_until

MINUTE = 60_000


async def made(client: Client, **config: Any) -> str:
    return f"{SESSIONS}/{(await create(client, timeoutConfig=config))['sessionId']}"


async def info(client: Client, url: str) -> dict[str, Any]:
    body: dict[str, Any] = await (await client.get(url)).json()
    return body


async def change(client: Client, url: str, **fields: Any) -> dict[str, Any]:
    response = await client.patch(f"{url}/timeout", json=fields)
    assert response.status == 200, await response.text()
    body: dict[str, Any] = await response.json()
    return body


async def after_activity(client: Client, url: str, action: str) -> dict[str, Any]:
    """Make an activity after the creation; return the info."""

    async def is_later() -> dict[str, Any] | None:
        body: dict[str, Any] = await (await client.post(f"{url}/{action}")).json()
        return body if body["lastActivity"] > body["createdAt"] else None

    body: dict[str, Any] = await wait_until(is_later)
    return body


async def test_a_change_leaves_what_is_not_given(client: Client) -> None:
    """Each field changes alone, and is neither an activity nor a renewal."""
    url = await made(client)
    created = await info(client, url)
    for fields in (
        {"timeoutMinutes": 60},
        {"autoRenew": False},
        {"maxDurationMinutes": 90},
        {"warningThresholdMinutes": 1.5},
        {},
    ):
        before = await info(client, url)
        after = await change(client, url, **fields)
        assert after["timeoutConfig"] == {**before["timeoutConfig"], **fields}
        assert after["lastActivity"] == created["lastActivity"]
        assert after["renewalCount"] == 0
        assert {**await info(client, url), "timeRemaining": 0} == {**after, "timeRemaining": 0}
    assert ms(after["expiresAt"]) == ms(created["createdAt"]) + 60 * MINUTE
    assert set(after) == set(created)


async def test_the_deadline_is_counted_from_the_last_renewal(client: Client) -> None:
    """The deadline counts from the last renewal, not from a change or activity."""
    url = await made(client, autoRenew=False)
    seen = await after_activity(client, url, "heartbeat")
    changed = await change(client, url, timeoutMinutes=60)
    assert ms(changed["expiresAt"]) == ms(seen["createdAt"]) + 60 * MINUTE

    renewed = await after_activity(client, url, "renew")
    await after_activity(client, url, "heartbeat")
    changed = await change(client, url, timeoutMinutes=20)
    assert ms(changed["expiresAt"]) == ms(renewed["lastActivity"]) + 20 * MINUTE


async def test_a_shorter_maximum_duration_cuts_the_deadline(client: Client) -> None:
    """The deadline is the earlier of the two."""
    url = await made(client, timeoutMinutes=60)
    await after_activity(client, url, "renew")
    body = await change(client, url, timeoutMinutes=20, maxDurationMinutes=20)
    assert ms(body["expiresAt"]) == ms(body["createdAt"]) + 20 * MINUTE


async def test_a_longer_maximum_duration_makes_room_to_renew(client: Client) -> None:
    """A session at its maximum can be renewed after the maximum is raised."""
    url = await made(client, timeoutMinutes=10, maxDurationMinutes=10)
    await assert_error(await client.post(f"{url}/renew"), 422, "SESSION_RENEWAL_FAILED")
    await change(client, url, maxDurationMinutes=60)
    assert (await client.post(f"{url}/renew")).status == 200


@pytest.mark.parametrize("auto_renew", [True, False])
async def test_auto_renew_can_be_switched(client: Client, auto_renew: bool) -> None:
    """The next activity obeys the last setting."""
    url = await made(client, autoRenew=not auto_renew)
    await change(client, url, autoRenew=auto_renew)
    body = await (await client.post(f"{url}/heartbeat")).json()
    assert body["renewalCount"] == int(auto_renew)


async def test_near_expiration_is_told_anew(client: Client) -> None:
    """A raised threshold or a shorter timeout makes a session near expiration at once."""
    url = await made(client, timeoutMinutes=30)
    assert (await change(client, url, warningThresholdMinutes=30))["isNearExpiration"] is True
    assert (await change(client, url, timeoutMinutes=60))["isNearExpiration"] is False


@pytest.mark.parametrize(
    "fields",
    [
        {"timeoutMinutes": 5},
        {"timeoutMinutes": 5.25},
        {"timeoutMinutes": 720},
        {"timeoutMinutes": 1440, "maxDurationMinutes": 1440},
        {"maxDurationMinutes": 30},
        {"maxDurationMinutes": 2880},
        {"warningThresholdMinutes": 30},
        {"warningThresholdMinutes": 0.001},
        {"timeoutMinutes": 60, "maxDurationMinutes": 60, "warningThresholdMinutes": 60},
    ],
)
async def test_the_edges_of_the_ranges_are_taken(client: Client, fields: dict[str, Any]) -> None:
    """The ends of the ranges are accepted and returned unchanged."""
    config = (await change(client, await made(client), **fields))["timeoutConfig"]
    assert {name: config[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("fields", "field", "allowed"),
    [
        ({"timeoutMinutes": 4.999}, "timeoutMinutes", "from 5 to 1440"),
        ({"timeoutMinutes": 1440.001}, "timeoutMinutes", "from 5 to 1440"),
        ({"timeoutMinutes": -30}, "timeoutMinutes", "from 5 to 1440"),
        ({"timeoutMinutes": 721}, "maxDurationMinutes", "at least timeoutMinutes (721)"),
        ({"timeoutMinutes": "10"}, "timeoutMinutes", "from 5 to 1440"),
        ({"timeoutMinutes": True}, "timeoutMinutes", "from 5 to 1440"),
        ({"maxDurationMinutes": 29.999}, "maxDurationMinutes", "at least timeoutMinutes (30)"),
        ({"maxDurationMinutes": 2880.001}, "maxDurationMinutes", "from 5 to 2880"),
        ({"warningThresholdMinutes": 30.001}, "warningThresholdMinutes", "at most timeoutMinutes"),
        ({"warningThresholdMinutes": 0}, "warningThresholdMinutes", "above 0"),
        ({"warningThresholdMinutes": -1}, "warningThresholdMinutes", "above 0"),
        ({"autoRenew": "yes"}, "autoRenew", "boolean"),
        ({"warningThresholdMinutes": 6, "timeoutMinutes": 5}, "warningThresholdMinutes", "(5)"),
    ],
)
async def test_a_change_that_breaks_a_rule_changes_nothing(
    client: Client, fields: dict[str, Any], field: str, allowed: str
) -> None:
    """A bad change is a 400 that names the field, and the session is unchanged."""
    url = await made(client)
    before = await info(client, url)
    response = await client.patch(f"{url}/timeout", json={"autoRenew": False, **fields})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith(f"{field} ")
    assert allowed in error["message"]
    assert {**await info(client, url), "timeRemaining": 0} == {**before, "timeRemaining": 0}


async def test_the_rules_hold_between_what_is_given_and_what_was(client: Client) -> None:
    """A timeout below the session's present warning threshold is refused."""
    url = await made(client, timeoutMinutes=60, warningThresholdMinutes=20)
    response = await client.patch(f"{url}/timeout", json={"timeoutMinutes": 19})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith("warningThresholdMinutes ")
    assert (await change(client, url, timeoutMinutes=20))["timeoutConfig"]["timeoutMinutes"] == 20
