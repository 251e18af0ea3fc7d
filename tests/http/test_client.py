"""The Python client against a service: what its calls return, and that none is refused."""

import asyncio

import pytest

from session_service.client import SessionNotFound, SessionService
from session_service.composition import Store
from session_service.store.events.feed import Feed
from session_service.web.http.state import AppState
from tests.support.access import AGENT, ANN, KnownCredentials
from tests.support.api import Client
from tests.support.service import app_state
from tests.support.waiting import wait_until


async def test_a_session_from_its_creation_to_its_end(caller: SessionService) -> None:
    """Each call has the effect that its name says, and pages have all items once."""
    created = await caller.sessions.create(ANN, AGENT, metadata={"topic": "billing"})
    session_id = created.session_id
    for n in range(5):
        await caller.messages.send(session_id, f"Message {n}")
    await caller.messages.send(session_id, "Reply", author_id=AGENT)
    contents = [each.content async for each in caller.messages.list(session_id, limit=2)]
    assert contents == ["Reply", *(f"Message {n}" for n in range(4, -1, -1))]
    forward = [each.content async for each in caller.messages.list(session_id, after=0, limit=2)]
    assert forward == contents[::-1]
    renewed = await caller.sessions.renew(session_id)
    assert (await caller.sessions.heartbeat(session_id)).renewal_count > renewed.renewal_count
    assert (await caller.sessions.update(session_id, metadata={"topic": None})).metadata == {}
    changed = await caller.sessions.update_timeout(session_id, timeout_minutes=60)
    assert changed.timeout_config.timeout_minutes == 60
    assert await caller.sessions.get(session_id) is not None
    assert (await caller.health.get()).active_sessions >= 0
    assert (await caller.health.live()).status == "ok"
    await caller.sessions.end(session_id)
    with pytest.raises(SessionNotFound) as raised:
        await caller.sessions.end(session_id)
    assert raised.value.request_id
    with pytest.raises(SessionNotFound):
        await caller.channels.read(session_id)


async def test_pages_of_sessions_have_each_once(caller: SessionService) -> None:
    """A listing by small pages is that of one page; ending them ends those."""
    created = [(await caller.sessions.create(ANN, AGENT)).session_id for _ in range(7)]
    listed = [each.session_id async for each in caller.sessions.list(user_id=ANN, limit=3)]
    assert sorted(listed) == sorted(created)
    assert (await caller.sessions.end_many(user_id=ANN)).ended == 7


async def test_webhooks_are_managed(caller: SessionService) -> None:
    """An endpoint is registered, listed, read, rotated, replayed and removed."""
    hook = await caller.webhooks.create("https://93.184.215.14/hook", types=["session.ended"])
    assert [each.webhook_id for each in (await caller.webhooks.list()).webhooks] == [
        hook.webhook_id
    ]
    assert (await caller.webhooks.get(hook.webhook_id)).webhook_id == hook.webhook_id
    assert (await caller.webhooks.rotate(hook.webhook_id)).secret != hook.secret
    assert [each async for each in caller.webhooks.dead_letters(hook.webhook_id)] == []
    await caller.webhooks.replay(hook.webhook_id)
    await caller.webhooks.delete(hook.webhook_id)
    assert (await caller.webhooks.list()).webhooks == []


async def test_the_events_of_a_session_come_in_order(caller: SessionService) -> None:
    """A stream has all events from its position on, and ends with its session."""
    session_id = (await caller.sessions.create(ANN, AGENT)).session_id
    stream = caller.events.follow(session_id=session_id)
    types: list[str] = []

    async def follow() -> None:
        types.extend([each.type async for each in stream])

    following = asyncio.create_task(follow())
    await wait_until(lambda: stream.position is not None)
    await caller.messages.send(session_id, "Hello")
    await caller.sessions.renew(session_id)
    await caller.sessions.end(session_id)
    await asyncio.wait_for(following, 10)
    assert types == ["session.message", "session.renewed", "session.ended"]


async def test_a_stream_begins_before_its_loop(caller: SessionService) -> None:
    """It has all events of its block; a second loop goes on after the first."""
    session_id = (await caller.sessions.create(ANN, AGENT)).session_id
    async with asyncio.timeout(10), caller.events.follow(session_id=session_id) as events:
        for n in range(3):
            await caller.messages.send(session_id, f"Message {n}")
        async for event in events:
            assert event.type == "session.message"
            break
        await caller.sessions.end(session_id)
        types = [event.type async for event in events]
    assert types == ["session.message"] * 2 + ["session.ended"]
    with pytest.raises(SessionNotFound):
        await caller.events.follow(session_id=session_id).begin()


async def test_a_stream_ends_with_its_block(caller: SessionService, feed: Feed) -> None:
    """Without a loop, too, its connection is closed."""
    async with asyncio.timeout(10), caller.events.follow(user_id=ANN) as events:
        assert events.position is not None
        assert feed.subscribers
    await wait_until(lambda: not feed.subscribers)


class TestWithAccessControl:
    @pytest.fixture
    def service(self, store: Store) -> AppState:
        return app_state(store, access=KnownCredentials())

    async def test_a_token_is_asked_for_at_each_request(self, client: Client) -> None:
        """A function for tokens is called for each request, and its error reaches the caller."""
        asked = []

        def token() -> str:
            asked.append(1)
            if len(asked) > 1:
                raise OSError("the provider of tokens is away")
            return "ann"

        url = f"http://127.0.0.1:{client.port}"
        async with SessionService(url, token=token, max_retries=0) as caller:
            await caller.sessions.create(ANN, AGENT)
            with pytest.raises(OSError, match="the provider of tokens is away"):
                await caller.sessions.create(ANN, AGENT)
