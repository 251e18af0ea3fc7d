"""``POST /api/messaging/sessions`` (contract, "Create")."""

import re
from typing import Any

import pytest
from yarl import URL

from session_service.domain.timeouts import TimeoutPolicy
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import session_body

IDS = session_body()


async def test_a_session_is_created_with_the_defaults(client: Client) -> None:
    """The 201 has all documented members, the defaults, and a Location."""
    response = await client.post(SESSIONS, json=IDS)
    session = await response.json()
    assert response.status == 201
    assert set(session) == {
        "sessionId", "channelId", "agentId", "userId", "createdAt", "expiresAt",
        "timeoutConfig", "metadata",
    }  # fmt: skip
    assert session["timeoutConfig"] == {
        "timeoutMinutes": 30,
        "autoRenew": True,
        "maxDurationMinutes": 720,
        "warningThresholdMinutes": 5,
    }
    assert session["metadata"] == {}
    assert {name: session[name] for name in IDS} == IDS
    assert response.headers["Location"] == f"sessions/{session['sessionId']}"
    assert str(response.url.join(URL(response.headers["Location"])).path).startswith(SESSIONS)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", session["createdAt"])


async def test_ids_name_their_shard_and_cannot_be_guessed(client: Client) -> None:
    """Ids are lower-case UUIDs; those of one user share only their first two digits."""
    ids = [(await create(client, userId=IDS["userId"]))["sessionId"] for _ in range(20)]
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", i) for i in ids)
    assert len({i[:2] for i in ids}) == 1
    assert len({i[2:] for i in ids}) == 20


async def test_uuids_are_given_in_lower_case(client: Client) -> None:
    """A UUID in any spelling is returned in lower case."""
    session = await create(client, userId=IDS["userId"].upper())
    assert session["userId"] == IDS["userId"]


@pytest.mark.parametrize("minutes", [5, 5.5, 1440])
async def test_a_timeout_within_the_range_is_taken(client: Client, minutes: float) -> None:
    """Both ends of the range and fractions are allowed, and returned unchanged."""
    session = await create(client, timeoutConfig={"timeoutMinutes": minutes})
    config = session["timeoutConfig"]
    assert config["timeoutMinutes"] == minutes
    assert config["maxDurationMinutes"] == max(720, minutes)


@pytest.mark.parametrize(
    ("config", "field", "allowed"),
    [
        ({"timeoutMinutes": 4.99}, "timeoutMinutes", "from 5 to 1440"),
        ({"timeoutMinutes": 1440.01}, "timeoutMinutes", "from 5 to 1440"),
        ({"timeoutMinutes": 60, "maxDurationMinutes": 59}, "maxDurationMinutes", "at least"),
        ({"maxDurationMinutes": 2880.5}, "maxDurationMinutes", "from 5 to 2880"),
        ({"warningThresholdMinutes": 0}, "warningThresholdMinutes", "above 0"),
        ({"warningThresholdMinutes": 31}, "warningThresholdMinutes", "at most timeoutMinutes"),
        ({"timeoutMinutes": True}, "timeoutMinutes", "number of minutes from 5 to 1440"),
        ({"timeoutMinutes": "30"}, "timeoutMinutes", "number of minutes from 5 to 1440"),
        ({"maxDurationMinutes": [60]}, "maxDurationMinutes", "number of minutes"),
        ({"autoRenew": 1}, "autoRenew", "boolean"),
    ],
)
async def test_a_timeout_out_of_range_is_refused(
    client: Client, config: dict[str, Any], field: str, allowed: str
) -> None:
    """The message names the field and the allowed range; nothing is clamped."""
    response = await client.post(SESSIONS, json={**IDS, "timeoutConfig": config})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert f"timeoutConfig.{field}" in error["message"]
    assert allowed in error["message"]


async def test_the_longest_duration_is_twice_the_longest_timeout(client: Client) -> None:
    """A duration of 2,880 minutes is allowed, and autoRenew can be off."""
    requested = {"maxDurationMinutes": 2880, "autoRenew": False, "warningThresholdMinutes": 30}
    session = await create(client, timeoutConfig=requested)
    assert session["timeoutConfig"] == {"timeoutMinutes": 30, **requested}


@pytest.mark.parametrize("name", ["agentId", "userId"])
@pytest.mark.parametrize("value", ["", "x", 5, None, "3f2504e0-4f89-41d3-9a0c-0305e82c33", [], {}])
async def test_ids_have_to_be_uuids(client: Client, name: str, value: Any) -> None:
    """An id that is no UUID is refused, and the message names the field."""
    response = await client.post(SESSIONS, json={**IDS, name: value})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith(f"{name} must be a UUID")


@pytest.mark.parametrize("name", ["agentId", "userId"])
async def test_ids_are_required(client: Client, name: str) -> None:
    """A missing id is named."""
    response = await client.post(SESSIONS, json={k: v for k, v in IDS.items() if k != name})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith(f"{name} is required")


async def test_metadata_comes_back_as_it_was(client: Client) -> None:
    """Any JSON object is stored and returned unchanged."""
    metadata = {"a": [1, 2.5, None, True, {"ü": "\x00 𝄞"}], "": 10**40}
    session = await create(client, metadata=metadata)
    response = await client.get(f"{SESSIONS}/{session['sessionId']}")
    assert session["metadata"] == (await response.json())["metadata"] == metadata


@pytest.mark.parametrize("letter", ["x", "ü", "𝄞"])
async def test_metadata_is_measured_in_bytes(client: Client, letter: str) -> None:
    """10,240 bytes of compact UTF-8 JSON are allowed, and not one more."""
    room = 10_240 - len('{"a":""}')
    text = letter * (room // len(letter.encode()))
    text += "x" * (room - len(text.encode()))
    assert (await create(client, metadata={"a": text}))["metadata"] == {"a": text}
    response = await client.post(SESSIONS, json={**IDS, "metadata": {"a": text + "x"}})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith("metadata must be")
    assert "10,240 bytes" in error["message"]


@pytest.mark.parametrize("metadata", [[], "x", 5, True])
async def test_metadata_has_to_be_an_object(client: Client, metadata: Any) -> None:
    """Metadata that is no object is refused."""
    response = await client.post(SESSIONS, json={**IDS, "metadata": metadata})
    await assert_error(response, 400, "VALIDATION_ERROR")


class TestWithShortTimeouts:
    """A service whose timeouts may be shorter than by default."""

    @pytest.fixture
    def policy(self) -> TimeoutPolicy:
        return TimeoutPolicy(min_timeout=1, max_timeout=60, default_timeout=2)

    async def test_the_default_warning_is_at_most_the_timeout(self, client: Client) -> None:
        """The default warning is five minutes, or the timeout if that is shorter."""
        session = await create(client)
        assert session["timeoutConfig"]["warningThresholdMinutes"] == 2

    async def test_the_range_is_the_services(self, client: Client) -> None:
        """The settings define the range, which the message contains."""
        response = await client.post(
            SESSIONS, json={**IDS, "timeoutConfig": {"timeoutMinutes": 61}}
        )
        error = await assert_error(response, 400, "VALIDATION_ERROR")
        assert "from 1 to 60" in error["message"]


async def test_ids_are_taken_in_upper_case(client: Client) -> None:
    """Ids may be in upper case in every path, as Swift writes them; responses use lower case."""
    session = await create(client)
    session_id = session["sessionId"]
    url = f"{SESSIONS}/{session_id.upper()}"
    for response in (
        await client.get(url),
        await client.post(f"{url}/heartbeat"),
        await client.post(f"{url}/messages", json={"content": "Hello"}),
        await client.get(f"{url}/messages"),
        await client.delete(url),
    ):
        assert response.status in (200, 201)
        assert session_id.upper() not in await response.text()
    await assert_error(await client.get(f"{SESSIONS}/{session_id}"), 404, "SESSION_NOT_FOUND")


async def test_there_is_one_id(client: Client) -> None:
    """The channel's id is the session's, at its creation and later."""
    session = await create(client)
    info = await (await client.get(f"{SESSIONS}/{session['sessionId']}")).json()
    assert session["channelId"] == session["sessionId"] == info["channelId"]
