"""``POST /sessions`` with ``getOrCreate`` (contract, "Create")."""

import asyncio
from typing import Any

import pytest

from session_service.domain.sessions import SessionLimits
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.http.create_limit import CreateLimit
from session_service.web.http.state import AppState
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import new_uuid, session_body
from tests.support.waiting import a_moment_later, wait_until

PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def policy() -> TimeoutPolicy:
    return TimeoutPolicy(min_timeout=0.0005, default_warning=0.0001)


async def get_or_create(
    client: Client, body: dict[str, Any], **headers: str
) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of a response, whose Location names the session."""
    response = await client.post(SESSIONS, json={**body, "getOrCreate": True}, headers=headers)
    session = await response.json()
    if response.status < 400:
        assert response.headers["Location"] == f"sessions/{session['sessionId']}"
    return response.status, session


async def test_the_session_is_created_once(client: Client) -> None:
    """The first call creates the session, and the second returns it; other fields are ignored."""
    ids = session_body()
    status, made = await get_or_create(client, {**ids, "metadata": {"a": 1}})
    assert status == 201
    later = {**ids, "metadata": {"b": 2}, "timeoutConfig": {"timeoutMinutes": 7}}
    status, found = await get_or_create(client, later)
    assert status == 200
    assert set(found) == set(made)
    changing = {"expiresAt": ""}
    assert found | changing == made | changing


async def test_a_session_that_is_found_had_a_heartbeat(client: Client) -> None:
    """Finding a session is activity: it renews the session."""
    ids = session_body()
    _, made = await get_or_create(client, ids)
    await a_moment_later()
    _, found = await get_or_create(client, ids)
    info = await (await client.get(f"{SESSIONS}/{made['sessionId']}")).json()
    assert info["lastActivity"] > made["createdAt"]
    assert info["renewalCount"] == 1
    assert info["expiresAt"] == found["expiresAt"] > made["expiresAt"]


async def test_the_newest_one_with_that_agent_is_found(client: Client) -> None:
    """Sessions with another agent, or of another user, and ended ones do not count."""
    ids = session_body()
    older = await create(client, **ids)
    await a_moment_later()
    newer = await create(client, **ids)
    await a_moment_later()
    await create(client, **{**ids, "agentId": new_uuid()})
    await create(client, **{**ids, "userId": new_uuid()})
    for expected in (newer, older):
        status, found = await get_or_create(client, ids)
        assert (status, found["sessionId"]) == (200, expected["sessionId"])
        await client.delete(f"{SESSIONS}/{expected['sessionId']}")
    status, last = await get_or_create(client, ids)
    assert status == 201
    assert last["sessionId"] not in {older["sessionId"], newer["sessionId"]}


async def test_an_expired_session_is_not_found(client: Client) -> None:
    """Sessions that expired are passed over, even if no sweep has run since."""
    ids = session_body()
    brief = {"timeoutMinutes": 0.0005}  # 30 ms
    made = [await create(client, **ids, timeoutConfig=brief) for _ in range(12)]

    async def is_over() -> bool:
        async with client.get(f"{SESSIONS}/{made[-1]['sessionId']}") as response:
            return response.status == 410

    await wait_until(is_over)
    status, new = await get_or_create(client, ids)
    assert status == 201
    assert new["sessionId"] not in {each["sessionId"] for each in made}


async def test_of_many_at_once_one_creates(client: Client) -> None:
    """Fifty concurrent calls get the same session, and one of them 201."""
    ids = session_body()
    results = await asyncio.gather(*(get_or_create(client, ids) for _ in range(50)))
    assert sorted(status for status, _ in results) == [200] * 49 + [201]
    assert len({body["sessionId"] for _, body in results}) == 1


async def test_a_key_repeats_the_response(client: Client) -> None:
    """With an Idempotency-Key the response is repeated, whether it found a session or created."""
    ids = session_body()
    for key, status in (("first", 201), ("second", 200)):
        once = await get_or_create(client, ids, **{"Idempotency-Key": key})
        again = await get_or_create(client, ids, **{"Idempotency-Key": key})
        assert again == once
        assert once[0] == status


async def test_false_and_null_create(client: Client) -> None:
    """Only true finds a session; any other type is a 400."""
    ids = session_body()
    first = await create(client, **ids, getOrCreate=False)
    second = await create(client, **ids, getOrCreate=None)
    assert first["sessionId"] != second["sessionId"]
    response = await client.post(SESSIONS, json={**ids, "getOrCreate": "yes"})
    await assert_error(response, 400, "VALIDATION_ERROR")


class TestLimits:
    """Limits apply only if there is no session yet."""

    @pytest.fixture
    def limits(self) -> SessionLimits:
        return SessionLimits(per_user=1)

    @pytest.fixture
    def service(self, service: AppState) -> AppState:
        service.creations = CreateLimit(2)
        return service

    async def test_a_user_with_too_many(self, client: Client) -> None:
        """A user at the limit gets the session that exists, and 409 with another agent."""
        ids = session_body()
        assert (await get_or_create(client, ids))[0] == 201
        assert (await get_or_create(client, ids))[0] == 200
        assert (await get_or_create(client, {**ids, "agentId": new_uuid()}))[0] == 409

    async def test_a_page_that_finds_is_not_counted(self, client: Client) -> None:
        """A page may find its session any number of times, also when it may create no more."""
        first, second = session_body(), session_body()
        assert (await get_or_create(client, first, **PAGE))[0] == 201
        for _ in range(5):
            assert (await get_or_create(client, first, **PAGE))[0] == 200
        assert (await get_or_create(client, second, **PAGE))[0] == 201
        assert (await get_or_create(client, session_body(), **PAGE))[0] == 429
        assert (await get_or_create(client, second, **PAGE))[0] == 200
