"""``/api/messaging/channels/{channelId}/messages``: conversations of sessions that are over."""

import os
from typing import Any
from uuid import uuid4

import pytest

from session_service.domain.ids import new_id
from session_service.domain.timeouts import TimeoutPolicy
from session_service.store.sessions.deadlines import Deadlines
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.waiting import wait_until

CHANNELS = "/api/messaging/channels"
OVER_BY = ["end", "expiry", "bulk"]

Json = dict[str, Any]


@pytest.fixture
def history_ms() -> int:
    return 60_000


@pytest.fixture
def policy() -> TimeoutPolicy:
    return TimeoutPolicy(min_timeout=0.0005, default_warning=0.0001)


async def create_conversation(client: Client, messages: int = 3) -> tuple[Json, list[Json]]:
    """Create a session with a conversation; return both, newest message first."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}/messages"
    for n in range(messages):
        author = session["agentId"] if n % 2 else session["userId"]
        await client.post(url, json={"content": str(n), "authorId": author, "metadata": {"n": n}})
    return session, await messages_at(client, url)


async def messages_at(client: Client, url: str, **query: str) -> list[Json]:
    response = await client.get(url, params=query)
    assert response.status == 200, await response.text()
    messages: list[Json] = (await response.json())["messages"]
    return messages


def channel(session: Json) -> str:
    return f"{CHANNELS}/{session['channelId']}/messages"


async def is_over(client: Client, deadlines: Deadlines, session: Json, by: str) -> None:
    """End a session, or let it expire."""
    url = f"{SESSIONS}/{session['sessionId']}"
    if by == "end":
        await client.delete(url)
    elif by == "bulk":
        await client.delete(SESSIONS, params={"userId": session["userId"]})
    else:
        brief = {"timeoutMinutes": 0.002, "warningThresholdMinutes": 0.0001}

        async def has_run_out() -> bool:
            async with client.patch(f"{url}/timeout", json=brief) as response:
                if (
                    response.status == 400
                ):  # the deadline would be in the past; a heartbeat moves it
                    await client.post(f"{url}/heartbeat")
                return response.status == 410

        await wait_until(has_run_out)
        assert (await deadlines.sweep()).expired == 1


@pytest.mark.parametrize("by", OVER_BY)
async def test_a_conversation_outlasts_its_session(
    client: Client, deadlines: Deadlines, by: str
) -> None:
    """The channel has the whole conversation, in the same pages as the session had."""
    session, conversation = await create_conversation(client)
    await is_over(client, deadlines, session, by)
    assert (await client.get(f"{SESSIONS}/{session['sessionId']}")).status in (404, 410)
    assert await messages_at(client, channel(session)) == conversation
    first = await (await client.get(channel(session), params={"limit": "2"})).json()
    assert (first["messages"], first["hasMore"]) == (conversation[:2], True)
    before, after = (str(first["cursors"][name]) for name in ("before", "after"))
    assert await messages_at(client, channel(session), before=before) == conversation[2:]
    assert await messages_at(client, channel(session), after=before) == conversation[:1]
    assert await messages_at(client, channel(session), after=after) == []


@pytest.mark.parametrize("by", OVER_BY)
async def test_erasing_is_at_once(client: Client, deadlines: Deadlines, by: str) -> None:
    """An erased conversation is gone at once; erasing it again is a 404."""
    session, _ = await create_conversation(client)
    await is_over(client, deadlines, session, by)
    response = await client.delete(channel(session))
    assert (response.status, await response.json()) == (
        200,
        {"message": "Conversation erased successfully"},
    )
    for response in (await client.delete(channel(session)), await client.get(channel(session))):
        await assert_error(response, 404, "SESSION_NOT_FOUND")


async def test_erasing_can_be_repeated_with_a_key(client: Client) -> None:
    """A repeat with the same key has the same response."""
    session, _ = await create_conversation(client)
    await client.delete(f"{SESSIONS}/{session['sessionId']}")
    headers = {"Idempotency-Key": "k"}
    responses = [await client.delete(channel(session), headers=headers) for _ in range(2)]
    assert [response.status for response in responses] == [200, 200]


async def test_a_conversation_without_messages_is_kept_too(client: Client) -> None:
    """A conversation without messages is an empty page, not a 404."""
    session, _ = await create_conversation(client, 0)
    await client.delete(f"{SESSIONS}/{session['sessionId']}")
    assert await (await client.get(channel(session))).json() == {"messages": [], "hasMore": False}
    assert (await client.delete(channel(session))).status == 200


async def test_while_a_session_lives_its_channel_has_nothing(client: Client) -> None:
    """While a session lives its channel is a 404, and cannot be erased."""
    session, conversation = await create_conversation(client)
    responses = [
        await assert_error(await client.request(method, url), 404, "SESSION_NOT_FOUND")
        for method in ("GET", "DELETE")
        for url in (
            channel(session),
            f"{CHANNELS}/{new_id('00', os.urandom)}/messages",
            f"{CHANNELS}/{uuid4()}x/messages",
            f"{CHANNELS}/x/messages",
        )
    ]
    assert responses == responses[:1] * 8
    url = f"{SESSIONS}/{session['sessionId']}/messages"
    assert await messages_at(client, url) == conversation


@pytest.mark.parametrize("query", [{"limit": "0"}, {"before": "x"}, {"after": "x"}])
async def test_a_bad_query_is_refused(client: Client, query: dict[str, str]) -> None:
    """A bad query is a 400, as for the history of a session."""
    response = await client.get(f"{CHANNELS}/{new_id('00', os.urandom)}/messages", params=query)
    await assert_error(response, 400, "VALIDATION_ERROR")


class TestForAMoment:
    """A service that keeps conversations for 200 ms."""

    @pytest.fixture
    def history_ms(self) -> int:
        return 200

    @pytest.mark.parametrize("by", OVER_BY)
    async def test_it_goes_by_itself(
        self, client: Client, deadlines: Deadlines, redis: Any, by: str
    ) -> None:
        """After its retention no key of a conversation is left."""
        session, _ = await create_conversation(client)
        await is_over(client, deadlines, session, by)

        async def is_gone() -> bool:
            async with client.get(channel(session)) as response:
                return response.status == 404

        await wait_until(is_gone)
        left = [key async for key in redis.scan_iter(f"*{session['channelId']}*")]
        record = f"}}:{session['channelId']}".encode()  # for the 410
        assert [key for key in left if not key.endswith(record)] == []


class TestNotKept:
    """A service that keeps no conversations."""

    @pytest.fixture
    def history_ms(self) -> int:
        return 0

    @pytest.mark.parametrize("by", OVER_BY)
    async def test_it_is_deleted_with_the_session(
        self, client: Client, deadlines: Deadlines, redis: Any, by: str
    ) -> None:
        """No key of the conversation is left."""
        session, _ = await create_conversation(client)
        await is_over(client, deadlines, session, by)
        await assert_error(await client.get(channel(session)), 404, "SESSION_NOT_FOUND")
        left = [key async for key in redis.scan_iter() if b":msg:" in key or b":kept:" in key]
        assert left == []
