"""Properties of the stored sessions that HTTP cannot show."""

import asyncio
from typing import Any

import pytest

from session_service.domain.timeouts import TimeoutChange
from session_service.store.sessions.repository import SessionRepository
from tests.support.factories import (
    HELLO,
    RENEWED_BY_REQUEST,
    create_session,
    new_uuid,
    recorded_events,
    shard_key,
)


async def test_an_ended_session_leaves_nothing(repository: SessionRepository, redis: Any) -> None:
    """An ended session leaves only its events, which describe its life in order."""
    session = await create_session(repository, RENEWED_BY_REQUEST)
    await repository.renew(session.id)
    await repository.send(session.id, HELLO)
    await repository.change_timeout(session.id, TimeoutChange(warning_ms=5))
    await repository.end(session.id)
    (events,) = await redis.keys("*")
    assert events == shard_key("events", session.id).encode()
    recorded = await recorded_events(redis, session.id[:2])
    assert [event.type for event in recorded] == [
        "created",
        "renewed",
        "message",
        "updated",
        "ended",
    ]
    assert {(event.session_id, event.agent_id, event.user_id) for event in recorded} == {
        (session.id, session.agent_id, session.user_id)
    }


async def test_all_that_belongs_to_a_session_is_in_one_slot(
    repository: SessionRepository, redis: Any
) -> None:
    """Every key of a session has the shard of its id as hash tag."""
    session = await create_session(repository)
    await repository.send(session.id, HELLO)
    tag = f"{{{session.id[:2]}}}".encode()
    assert all(tag in key for key in await redis.keys("*"))


async def test_an_index_that_was_empty_gets_its_ttl_again(
    repository: SessionRepository, redis: Any
) -> None:
    """An index that is created again has a TTL again."""
    user = new_uuid()
    for _ in range(2):
        session = await create_session(repository, user_id=user)
        await repository.end(session.id)
    await create_session(repository, user_id=user)
    assert [key for key in await redis.keys("*") if await redis.ttl(key) < 0] == []


@pytest.mark.parametrize("times", [200])
async def test_messages_at_once_are_a_millisecond_apart(
    repository: SessionRepository, times: int
) -> None:
    """Concurrent messages have distinct milliseconds, so that a cursor is exact."""
    session = await create_session(repository)
    sent = await asyncio.gather(*(repository.send(session.id, HELLO) for _ in range(times)))
    created = sorted(message.created_at for message, _, _ in sent)
    assert len(set(created)) == times
    assert max(renewed.renewal_count for _, renewed, _ in sent) == times
