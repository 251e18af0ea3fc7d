"""The Idempotency-Key header: a repeated request has one effect and one response."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from session_service.domain.timeouts import TimeoutPolicy
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import session_body

PARTIES = session_body()
OPERATIONS: list[tuple[str, str, Any, int]] = [
    ("POST", SESSIONS, {**PARTIES, "metadata": {"ü/\x7f": 'é"\n'}}, 201),
    ("POST", "{session}/messages", {"content": "Hello"}, 201),
    ("POST", "{session}/renew", None, 200),
    ("POST", "{session}/heartbeat", None, 200),
    ("DELETE", "{session}", None, 200),
    ("DELETE", f"{SESSIONS}?all=true", None, 200),
]
names = [f"{method} {path.rpartition('/')[2]}" for method, path, *_ in OPERATIONS]

Answered = tuple[int, bytes, str | None]


async def ask(client: Client, key: str, method: str, url: str, body: Any = None) -> Answered:
    headers = {"Idempotency-Key": key}
    async with client.request(method, url, json=body, headers=headers) as response:
        return response.status, await response.read(), response.headers.get("Location")


async def new_session(client: Client) -> str:
    """Create a session that can be renewed; return its URL."""
    return f"{SESSIONS}/{(await create(client, metadata={'ü': '/'}))['sessionId']}"


async def visible_state(client: Client, session: str) -> Any:
    """Return all that can be seen of a session and of the number of sessions, without times."""
    info = await (await client.get(session)).json()
    messages = await (await client.get(f"{session}/messages")).json()
    listed = await (await client.get(SESSIONS)).json()
    return {**info, "timeRemaining": 0}, messages, listed["total"]


@pytest.mark.parametrize(("method", "path", "body", "status"), OPERATIONS, ids=names)
async def test_the_same_request_gets_the_same_answer(
    client: Client, method: str, path: str, body: Any, status: int
) -> None:
    """A repeat has the first status, body and Location, and no further effect."""
    session = await new_session(client)
    url = path.format(session=session)
    first = await ask(client, "a key", method, url, body)
    assert first[0] == status
    after_first = await visible_state(client, session)
    assert [await ask(client, "a key", method, url, body) for _ in range(3)] == [first] * 3
    assert await visible_state(client, session) == after_first


@pytest.mark.parametrize(("method", "path", "body", "status"), OPERATIONS, ids=names)
async def test_the_answer_is_the_one_without_a_key(
    client: Client, method: str, path: str, body: Any, status: int
) -> None:
    """With a key the response has the same members, of the same types."""

    def kinds(value: Any) -> Any:
        return (
            {name: kinds(each) for name, each in value.items()}
            if isinstance(value, dict)
            else type(value)
        )

    shown = []
    for headers in ({"Idempotency-Key": "a key"}, {}):
        session = await new_session(client)
        url = path.format(session=session)
        async with client.request(method, url, json=body, headers=headers) as response:
            assert response.status == status
            shown.append(kinds(await response.json()))
    assert shown[0] == shown[1]


@pytest.mark.parametrize("path", [SESSIONS, "{session}/messages", "{session}/renew", "{session}"])
async def test_a_thousand_at_once_have_one_effect(client: Client, path: str) -> None:
    """A thousand concurrent repeats have one effect and the same response."""
    session = await new_session(client)
    method = "DELETE" if path == "{session}" else "POST"
    body = {**PARTIES, "content": "Hello"} if path != "{session}" else None
    responses = await asyncio.gather(
        *(ask(client, "k", method, path.format(session=session), body) for _ in range(1000))
    )
    assert responses == responses[:1] * 1000
    assert responses[0][0] in (200, 201)
    if path != "{session}":
        info, messages, total = await visible_state(client, session)
        assert total == 1 + (path == SESSIONS)
        assert len(messages["messages"]) == path.endswith("messages")
        assert info["renewalCount"] == (path not in (SESSIONS, "{session}"))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "{session}/messages", {"content": "Bye"}),
        ("POST", "{session}/messages", {"content": 1}),
        ("POST", "{other}/messages", {"content": "Hello"}),
        ("POST", "{session}/heartbeat", None),
        ("DELETE", "{session}", None),
        ("DELETE", f"{SESSIONS}?all=true", None),
    ],
)
async def test_another_request_cannot_have_the_key(
    client: Client, method: str, path: str, body: Any
) -> None:
    """Another body, path or method with the same key is a 422 without effect."""
    session, other = await new_session(client), await new_session(client)
    await ask(client, "k", "POST", f"{session}/messages", {"content": "Hello"})
    before = await visible_state(client, session), await visible_state(client, other)
    url = path.format(session=session, other=other)
    response = await client.request(method, url, json=body, headers={"Idempotency-Key": "k"})
    await assert_error(response, 422, "IDEMPOTENCY_MISMATCH")
    assert (await visible_state(client, session), await visible_state(client, other)) == before


async def test_another_key_is_another_request(client: Client) -> None:
    """The same message under two keys is stored twice."""
    session = await new_session(client)
    for key in ("a", "A"):
        await ask(client, key, "POST", f"{session}/messages", {"content": "Hello"})
    assert len((await visible_state(client, session))[1]["messages"]) == 2


async def test_what_became_of_the_session_does_not_matter(client: Client) -> None:
    """A repeat gets its 201 even if the session has ended since."""
    session = await new_session(client)
    call = ("k", "POST", f"{session}/messages", {"content": "Hello"})
    first = await ask(client, *call)
    await client.delete(session)
    assert await ask(client, *call) == first
    assert (await ask(client, "k2", *call[1:]))[0] == 404


class TestOutcomes:
    """Outcomes other than success are recorded, too."""

    @pytest.fixture
    def policy(self) -> TimeoutPolicy:
        return TimeoutPolicy(min_timeout=1)

    async def test_a_refusal_is_repeated(self, client: Client) -> None:
        """A 422 and a 404 are repeated, whatever has changed since."""
        full = {"timeoutMinutes": 5, "maxDurationMinutes": 5}
        session = f"{SESSIONS}/{(await create(client, timeoutConfig=full))['sessionId']}"
        exhausted = await ask(client, "a", "POST", f"{session}/renew")
        assert exhausted[0] == 422
        await client.patch(f"{session}/timeout", json={"maxDurationMinutes": 60})
        assert await ask(client, "a", "POST", f"{session}/renew") == exhausted
        assert (await ask(client, "b", "POST", f"{session}/renew"))[0] == 200
        missing = [await ask(client, "c", "DELETE", f"{SESSIONS}/{uuid4()}")]
        await client.delete(session)
        missing += [await ask(client, "d", "DELETE", session) for _ in range(2)]
        assert {response[0] for response in missing} == {404}

    async def test_a_bad_request_has_the_key_too(self, client: Client) -> None:
        """A bad request is a 400 each time; the corrected one needs another key."""
        for body in ({"timeoutConfig": {"timeoutMinutes": 0}, **PARTIES}, {"agentId": 1}):
            key = str(body)
            responses = [await ask(client, key, "POST", SESSIONS, body) for _ in range(2)]
            assert responses == responses[:1] * 2
            assert responses[0][0] == 400
            assert (await ask(client, key, "POST", SESSIONS, PARTIES))[0] == 422


async def test_one_in_flight_is_a_conflict(client: Client) -> None:
    """A request of several steps runs once; concurrent repeats get 409, then its response."""
    await asyncio.gather(*(create(client, **PARTIES) for _ in range(1000)))
    call = ("k", "DELETE", f"{SESSIONS}?userId={PARTIES['userId']}")
    responses = await asyncio.gather(*(ask(client, *call) for _ in range(20)))
    assert {status for status, *_ in responses} == {200, 409}
    last = await ask(client, *call)
    assert last[:2] == (200, b'{"ended":1000,"more":false}')
    assert {response for response in responses if response[0] == 200} == {last}
    conflict = next(body for status, body, _ in responses if status == 409)
    assert b'"code":"IDEMPOTENCY_CONFLICT"' in conflict


@pytest.mark.parametrize("keys", [[""], ["x" * 256], ["ü"], ["a\tb"], ["a", "b"]])
@pytest.mark.parametrize(
    "path", [SESSIONS, f"{SESSIONS}/3f000000-0000-4000-8000-000000000000/renew"]
)
async def test_a_bad_key_is_refused(client: Client, keys: list[str], path: str) -> None:
    """A bad key is a 400 that names the header."""
    headers = [("Idempotency-Key", key) for key in keys]
    response = await client.post(path, json=PARTIES, headers=headers)
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"] == "Idempotency-Key must be 1 to 255 printable ASCII characters"


@pytest.mark.parametrize("key", ["x", "x" * 255, '"a b", ~!'])
async def test_any_printable_key_does(client: Client, key: str) -> None:
    """A key has 1 to 255 printable characters."""
    responses = [await ask(client, key, "POST", SESSIONS, PARTIES) for _ in range(2)]
    assert responses == responses[:1] * 2
    assert responses[0][0] == 201


async def test_it_means_nothing_to_what_changes_nothing_twice(client: Client) -> None:
    """GET and PATCH ignore the key."""
    session = await new_session(client)
    headers = {"Idempotency-Key": "k"}
    for minutes in (10, 20):
        change = {"timeoutMinutes": minutes}
        response = await client.patch(f"{session}/timeout", json=change, headers=headers)
        assert (await response.json())["timeoutConfig"]["timeoutMinutes"] == minutes
    assert (await client.get(session, headers=headers)).status == 200
