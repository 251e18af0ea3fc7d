"""``DELETE /api/messaging/sessions``: ending many sessions at once."""

import asyncio
from typing import Any

import pytest

from session_service.store.sessions import bulk
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import new_uuid, recorded_events, shard_key


async def end_all(client: Client, **query: str) -> dict[str, Any]:
    response = await client.delete(SESSIONS, params=query)
    assert response.status == 200, await response.text()
    body: dict[str, Any] = await response.json()
    return body


async def lasting(client: Client) -> set[str]:
    listed = await (await client.get(SESSIONS, params={"limit": "1000"})).json()
    return {session["sessionId"] for session in listed["sessions"]}


async def test_the_filters_choose_whose_sessions_end(client: Client) -> None:
    """The sessions of a user, of an agent, of both, or all of them end; others live on."""
    users, agents = [new_uuid() for _ in range(2)], [new_uuid() for _ in range(2)]
    made = [
        await create(client, userId=user, agentId=agent)
        for user in users
        for agent in agents
        for _ in range(3)
    ]
    for query, ended in (
        ({"userId": new_uuid()}, 0),
        ({"userId": users[0].upper(), "agentId": agents[0]}, 3),
        ({"agentId": agents[0]}, 3),
        ({"userId": users[0]}, 3),
        ({"all": "true"}, 3),
        ({"all": "true"}, 0),
    ):
        assert await end_all(client, **query) == {"ended": ended, "more": False}
        made = [
            session
            for session in made
            if not all(session.get(k, v) == v.lower() for k, v in query.items())
        ]
        assert await lasting(client) == {session["sessionId"] for session in made}


async def test_each_is_ended_as_one_is(client: Client, redis: Any) -> None:
    """Each ended session is a 404, and only its events are left."""
    user = new_uuid()
    made = [(await create(client, userId=user))["sessionId"] for _ in range(5)]
    for session_id in made:
        await client.post(f"{SESSIONS}/{session_id}/messages", json={"content": "Hello"})
    await end_all(client, userId=user)
    for session_id in made:
        response = await client.get(f"{SESSIONS}/{session_id}")
        await assert_error(response, 404, "SESSION_NOT_FOUND")
    (events,) = [key async for key in redis.scan_iter()]
    assert events.decode() == shard_key("events", made[0])
    ended = [e for e in await recorded_events(redis, made[0][:2]) if e.type == "ended"]
    assert sorted(event.session_id for event in ended) == sorted(made)
    assert {event.data["reason"] for event in ended} == {"bulk"}


async def test_many_are_ended_while_more_come(client: Client) -> None:
    """All 2,000 sessions of a user end, and those created after the call live."""
    user = new_uuid()
    before = await asyncio.gather(*(create(client, userId=user) for _ in range(2000)))
    since: list[dict[str, Any]] = []
    over = asyncio.Event()

    async def go_on_creating() -> None:
        while not over.is_set():
            since.append(await create(client, userId=user))

    creating = [asyncio.create_task(go_on_creating()) for _ in range(4)]
    response = await end_all(client, userId=user)
    late = await create(client, userId=user)
    over.set()
    await asyncio.gather(*creating)
    created = {session["sessionId"]: session["createdAt"] for session in (*since, late)}
    left = await lasting(client)
    gone = created.keys() - left
    assert response == {"ended": 2000 + len(gone), "more": False}
    assert not left & {session["sessionId"] for session in before}
    assert left <= created.keys()
    assert late["sessionId"] in left
    # sessions created before one moment of the store's clock are ended, later ones are not
    moments = [max([created[i] for i in gone], default=""), min(created[i] for i in left)]
    assert moments == sorted(moments)


async def test_callers_at_once_share_the_work(client: Client) -> None:
    """Each session is ended by exactly one of several concurrent callers."""
    await asyncio.gather(*(create(client) for _ in range(300)))
    responses = await asyncio.gather(*(end_all(client, all="true") for _ in range(5)))
    assert sum(response["ended"] for response in responses) == 300
    assert await lasting(client) == set()


async def test_a_call_has_a_bound(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that cannot end all sessions in time says so, and a repeat ends the rest."""
    monkeypatch.setattr(bulk, "_BATCH", 10)
    monkeypatch.setattr(bulk, "_MAX_SECONDS", 0.0)
    user = new_uuid()
    await asyncio.gather(*(create(client, userId=user) for _ in range(35)))
    responses = [await end_all(client, userId=user) for _ in range(4)]
    assert [tuple(response.values()) for response in responses] == [(10, True)] * 3 + [(5, False)]
    assert await lasting(client) == set()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "userId, agentId or all is required"),
        ("?all=true&userId={id}", "all must be left out if userId or agentId is set"),
        ("?all=true&agentId={id}", "all must be left out if userId or agentId is set"),
        ("?all=false", "all must be true"),
        ("?all=", "all must be true"),
        ("?userId=x", "userId must be a UUID"),
        ("?agentId=", "agentId must be a UUID"),
        ("?agentId={id}&userID={id}", "userID is not known here: allowed are userId, agentId, all"),
        ("?agentId={id}&user-id={id}", "A parameter is not known here: allowed are userId, "),
    ],
)
async def test_what_is_unclear_ends_nothing(client: Client, query: str, message: str) -> None:
    """An ambiguous or unknown filter is a 400 that names the parameters."""
    session = await create(client)
    response = await client.delete(SESSIONS + query.format(id=session["userId"]))
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith(message)
    assert await lasting(client) == {session["sessionId"]}
