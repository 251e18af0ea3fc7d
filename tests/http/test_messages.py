"""Sending messages and reading the conversation (contract, "Messages")."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientResponse

from session_service.domain.sessions import SessionLimits
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import new_uuid, session_body

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ms(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


@pytest.fixture
async def session(client: Client) -> dict[str, Any]:
    return await create(client)


@pytest.fixture
def url(session: dict[str, Any]) -> str:
    return f"{SESSIONS}/{session['sessionId']}/messages"


async def send_messages(client: Client, url: str, count: int) -> list[int]:
    """Send messages, some concurrently; return their creation times, oldest first."""
    responses = await asyncio.gather(
        *(client.post(url, json={"content": str(n)}) for n in range(count))
    )
    return sorted([ms((await response.json())["createdAt"]) for response in responses])


async def page(client: Client, url: str, **query: Any) -> dict[str, Any]:
    response = await client.get(url, params={k: str(v) for k, v in query.items()})
    assert response.status == 200, await response.text()
    body: dict[str, Any] = await response.json()
    return body


def times(body: dict[str, Any]) -> list[int]:
    return [ms(message["createdAt"]) for message in body["messages"]]


async def test_a_message_is_stored_and_renews(
    client: Client, session: dict[str, Any], url: str
) -> None:
    """The 201 has the message, flat and as userMessage, and the session's new deadline."""
    attachments = [{"type": "image", "url": "https://a.example/b", "name": "b", "size": 3}]
    given = {"content": "Hello", "metadata": {"a": 1}, "attachments": attachments}
    response = await client.post(url, json={**given, "transport": "http"})
    sent = await response.json()
    assert response.status == 201
    message = sent.pop("userMessage")
    status = sent.pop("sessionStatus")
    assert message == {**sent, "isAgent": False}
    assert {name: sent[name] for name in given} == given
    assert sent["authorId"] == session["userId"]
    assert (status["wasRenewed"], status["renewalCount"]) == (True, 1)
    assert status["isNearExpiration"] is False
    assert (await page(client, url))["messages"] == [message]


async def test_a_message_may_be_the_agents(
    client: Client, session: dict[str, Any], url: str
) -> None:
    """The author may be the session's user or agent."""
    sent = await client.post(url, json={"content": "x", "authorId": session["agentId"].upper()})
    assert (await sent.json())["authorId"] == session["agentId"]
    assert (await page(client, url))["messages"][0]["isAgent"] is True


async def test_a_message_of_a_stranger_is_refused(client: Client, url: str) -> None:
    """Another author is a 400; nothing is stored or renewed."""
    response = await client.post(url, json={"content": "x", "authorId": new_uuid()})
    await assert_error(response, 400, "VALIDATION_ERROR")
    info = await (await client.get(url.removesuffix("/messages"))).json()
    assert (info["renewalCount"], (await page(client, url))["messages"]) == (0, [])


@pytest.mark.parametrize("letter", ["x", "𝄞", "\x00"])
async def test_content_is_counted_in_code_points(client: Client, url: str, letter: str) -> None:
    """4,000 code points are allowed, and not one more."""
    response = await client.post(url, json={"content": letter * 4000})
    assert (await response.json())["content"] == letter * 4000
    response = await client.post(url, json={"content": letter * 4001})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"] == (
        "content must be a string of 1 to 4000 characters, or if authorId is the agent's, of at"
        " most 131,072 bytes of UTF-8"
    )


@pytest.mark.parametrize("letter", ["x", "é", "𝄞"])
async def test_an_agents_content_is_counted_in_bytes(client: Client, letter: str) -> None:
    """An agent may send 128 KiB of UTF-8, and not a byte more; the user's limit is unchanged."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}/messages"
    longest = letter * (131_072 // len(letter.encode()))

    async def sent(content: str, author: str) -> ClientResponse:
        body = json.dumps({"content": content, "authorId": author}, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json"}
        return await client.post(url, data=body, headers=headers)

    response = await sent(longest, session["agentId"].upper())
    assert response.status == 201
    assert (await response.json())["content"] == longest
    (message,) = (await page(client, url))["messages"]
    assert (message["content"], message["isAgent"]) == (longest, True)
    for content, author in (
        (longest + "x", session["agentId"]),
        ("x" * 4001, session["userId"]),
        ("", session["agentId"]),
    ):
        error = await assert_error(await sent(content, author), 400, "VALIDATION_ERROR")
        assert error["details"] == "content"
    response = await sent("x" * 4001, new_uuid())
    assert (await assert_error(response, 400, "VALIDATION_ERROR"))["details"] == "authorId"
    assert len((await page(client, url))["messages"]) == 1
    info = await (await client.get(url.removesuffix("/messages"))).json()
    assert info["renewalCount"] == 1


class TestWithLimits:
    """A service with small limits."""

    @pytest.fixture
    def limits(self) -> SessionLimits:
        return SessionLimits(per_user=2, messages=3, reply_bytes=5)

    async def test_a_session_has_so_many_messages(self, client: Client, url: str) -> None:
        """Beyond the limit a message is a 422 and no activity; each session has its own."""
        for _ in range(3):
            assert (await client.post(url, json={"content": "x"})).status == 201
        responses = await asyncio.gather(
            *(client.post(url, json={"content": "x"}) for _ in range(5))
        )
        for response in responses:
            error = await assert_error(response, 422, "TOO_MANY_MESSAGES")
            assert "at most 3 messages" in error["details"]
        assert len((await page(client, url))["messages"]) == 3
        info = await (await client.get(url.removesuffix("/messages"))).json()
        assert info["renewalCount"] == 3
        other = f"{SESSIONS}/{(await create(client))['sessionId']}/messages"
        assert (await client.post(other, json={"content": "x"})).status == 201

    async def test_a_user_has_so_many_sessions(self, client: Client) -> None:
        """Beyond the limit a creation is a 409, concurrent ones too; an end makes room."""
        ids = session_body()
        responses = await asyncio.gather(*(client.post(SESSIONS, json=ids) for _ in range(8)))
        made = [await response.json() for response in responses if response.status == 201]
        assert len(made) == 2
        for response in responses:
            if response.status != 201:
                error = await assert_error(response, 409, "TOO_MANY_SESSIONS")
                assert "at most 2 live sessions" in error["details"]
        await create(client)  # for another user
        assert (await client.delete(f"{SESSIONS}/{made[0]['sessionId']}")).status == 200
        assert (await client.post(SESSIONS, json=ids)).status == 201
        assert (await client.post(SESSIONS, json=ids)).status == 409

    async def test_a_low_limit_of_replies_is_the_agents(self, client: Client) -> None:
        """A low limit for agents does not affect users."""
        session = await create(client)
        url = f"{SESSIONS}/{session['sessionId']}/messages"
        for author, content, status in (
            ("agentId", "12345", 201),
            ("agentId", "123456", 400),
            ("userId", "123456", 201),
        ):
            body = {"content": content, "authorId": session[author]}
            assert (await client.post(url, json=body)).status == status


class TestWithoutLimits:
    """A service without limits."""

    @pytest.fixture
    def limits(self) -> SessionLimits:
        return SessionLimits(per_user=0, messages=0)

    async def test_zero_is_no_limit(self, client: Client, url: str) -> None:
        """Sessions and messages are stored without limit."""
        user = new_uuid()
        for _ in range(3):
            await create(client, userId=user)
            assert (await client.post(url, json={"content": "x"})).status == 201


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"content": ""}, "content"),
        ({"content": None}, "content"),
        ({"content": 5}, "content"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": "x" * 10_240}}, "metadata"),
        ({"authorId": "me"}, "authorId"),
        ({"attachments": {}}, "attachments"),
        ({"attachments": [{"type": "a", "url": "b"}] * 11}, "attachments"),
        ({"attachments": ["x"]}, "attachments[0]"),
        ({"attachments": [{"type": "a", "url": "b"}, {"type": "a"}]}, "attachments[1].url"),
        ({"attachments": [{"url": "b"}]}, "attachments[0].type"),
        ({"attachments": [{"type": "", "url": "b"}]}, "attachments[0].type"),
        ({"attachments": [{"type": "a", "url": "b", "name": 1}]}, "attachments[0].name"),
    ],
)
async def test_a_bad_message_is_refused(
    client: Client, url: str, change: dict[str, Any], field: str
) -> None:
    """A bad message is a 400 that names the field, and nothing is stored."""
    response = await client.post(url, json={"content": "x", **change})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith(f"{field} ")
    assert (await page(client, url))["messages"] == []


async def test_ten_attachments_are_allowed(client: Client, url: str) -> None:
    """Ten attachments are allowed; eleven are in the test above."""
    attachments = [{"type": "file", "url": str(n)} for n in range(10)]
    response = await client.post(url, json={"content": "x", "attachments": attachments})
    assert (await response.json())["attachments"] == attachments


async def test_times_are_unique_and_increase(client: Client, url: str) -> None:
    """Concurrent messages are at least a millisecond apart."""
    created = await send_messages(client, url, 60)
    assert len(set(created)) == 60
    assert times(await page(client, url, limit=100)) == created[::-1]


async def test_an_empty_conversation_has_no_cursors(client: Client, url: str) -> None:
    """An empty page has no cursors."""
    assert await page(client, url) == {"messages": [], "hasMore": False}


async def test_pages_are_newest_first_and_fifty_long(client: Client, url: str) -> None:
    """The default page is the newest fifty, and hasMore is exact."""
    created = await send_messages(client, url, 51)
    body = await page(client, url)
    assert times(body) == created[:0:-1]
    assert body["hasMore"] is True
    assert body["cursors"] == {"before": created[1], "after": created[50]}
    assert (await page(client, url, limit=51))["hasMore"] is False


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_paging_back_meets_each_message_once(client: Client, url: str, size: int) -> None:
    """Paging by ``before`` returns each message once, newest first."""
    created = await send_messages(client, url, 10)
    body = await page(client, url, limit=size)
    met = times(body)
    while body["hasMore"]:
        body = await page(client, url, limit=size, before=body["cursors"]["before"])
        met += times(body)
    assert met == created[::-1]


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_paging_forward_leaves_no_gap(client: Client, url: str, size: int) -> None:
    """``after`` alone returns the messages that follow directly, each page newest first."""
    created = await send_messages(client, url, 10)
    met, after, more = [created[0]], created[0], True
    while more:
        body = await page(client, url, limit=size, after=after)
        met += times(body)[::-1]
        after, more = body["cursors"]["after"], body["hasMore"]
    assert met == created


async def test_both_bounds_make_a_range(client: Client, url: str) -> None:
    """Both bounds are exclusive, and the newest in the range come first."""
    created = await send_messages(client, url, 6)
    body = await page(client, url, after=created[0], before=created[5], limit=3)
    assert times(body) == created[4:1:-1]
    assert body["hasMore"] is True
    body = await page(client, url, after=created[0], before=created[2])
    assert (times(body), body["hasMore"]) == ([created[1]], False)
    assert (await page(client, url, after=created[5], before=created[0]))["messages"] == []


async def test_bounds_may_be_iso_times_of_any_precision(client: Client, url: str) -> None:
    """A time between two milliseconds is a bound between two messages."""
    created = await send_messages(client, url, 3)
    middle = EPOCH + timedelta(milliseconds=created[1])
    just_after = (middle + timedelta(microseconds=500)).isoformat()
    assert times(await page(client, url, before=middle.isoformat())) == created[:1]
    assert times(await page(client, url, before=just_after)) == created[1::-1]
    assert times(await page(client, url, after=just_after)) == created[2:]
    assert times(await page(client, url, after="1950-01-01")) == created[::-1]
    assert (
        times(await page(client, url, before=middle.strftime("%Y-%m-%dT%H:%M:%S.%fZ")))
        == (created[:1])
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=1.5", "limit"),
        ("before=yesterday", "before"),
        ("before=", "before"),
        ("after=-1", "after"),
        ("after=99999999999999999", "after"),
        ("after=NaN", "after"),
    ],
)
async def test_a_bad_query_is_refused(client: Client, url: str, query: str, field: str) -> None:
    """A bad query is a 400 that names the parameter."""
    error = await assert_error(await client.get(f"{url}?{query}"), 400, "VALIDATION_ERROR")
    assert error["message"].startswith(f"{field} must be ")
