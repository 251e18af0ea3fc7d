"""What the store promises beyond what HTTP can show."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from session_service.domain.errors import SessionExpired, SessionNotFound
from session_service.domain.messages import NewMessage
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import TimeoutChange, TimeoutConfig
from session_service.store.repository import SessionRepository
from tests.waiting import wait_until

HOUR = 3_600_000
LASTING = TimeoutConfig(HOUR, True, 2 * HOUR, 1000)
BRIEF = TimeoutConfig(30, False, HOUR, 1)
HELLO = NewMessage("Hello", None, b"{}", None)


def new(timeout: TimeoutConfig = LASTING, user: str | None = None) -> NewSession:
    return NewSession(str(uuid4()), user or str(uuid4()), timeout, b"{}")


async def gone(repository: SessionRepository, session: Session) -> None:
    """Wait until a session has run out."""

    async def has_run_out() -> bool:
        try:
            await repository.get(session.id)
        except (SessionExpired, SessionNotFound):
            return True
        return False

    await wait_until(has_run_out)


async def test_an_ended_session_leaves_nothing(repository: SessionRepository, redis: Any) -> None:
    """Nothing but its events is left, and they tell its life in order."""
    session = await repository.create(new())
    await repository.send(session.id, HELLO)
    await repository.change_timeout(session.id, TimeoutChange(warning_ms=5))
    await repository.end(session.id)
    (events,) = await redis.keys("*")
    assert events == f"test:{{{session.id[:2]}}}:events".encode()
    told = [fields[b"event"].decode().split() for _, fields in await redis.xrange(events)]
    assert [event[0] for event in told] == ["created", "renewed", "message", "updated", "ended"]
    assert {tuple(event[1:4]) for event in told} == {
        (session.id, session.agent_id, session.user_id)
    }


async def test_all_that_belongs_to_a_session_is_in_one_slot(
    repository: SessionRepository, redis: Any
) -> None:
    """Every key carries the shard, which the session's id names, as its hash tag."""
    session = await repository.create(new())
    await repository.send(session.id, HELLO)
    tag = f"{{{session.id[:2]}}}".encode()
    assert all(tag in key for key in await redis.keys("*"))


async def test_each_expiry_is_acted_on_once(repository: SessionRepository, redis: Any) -> None:
    """Ten sweeps at once announce each of twenty expiries once."""
    sessions = [await repository.create(new(BRIEF)) for _ in range(20)]
    for session in sessions:
        await gone(repository, session)
    reports = await asyncio.gather(*(repository.sweep() for _ in range(10)))
    assert sum(report.expired for report in reports) == 20
    told = [
        fields[b"event"].decode().split()[1]
        for key in await redis.keys("*:events")
        for _, fields in await redis.xrange(key)
        if fields[b"event"].startswith(b"expired ")
    ]
    assert sorted(told) == sorted(session.id for session in sessions)


async def test_a_warning_is_told_once_for_each_deadline(repository: SessionRepository) -> None:
    """A session past its threshold is warned about once, and again after a renewal."""
    session = await repository.create(new(TimeoutConfig(HOUR, True, 9 * HOUR, HOUR)))
    assert [(await repository.sweep()).warned for _ in range(2)] == [1, 0]
    await repository.renew(session.id)
    assert [(await repository.sweep()).warned for _ in range(2)] == [1, 0]


async def test_a_renewed_session_is_not_warned_about_early(repository: SessionRepository) -> None:
    """A deadline that has moved takes its warning along."""
    session = await repository.create(new(TimeoutConfig(HOUR, True, 9 * HOUR, HOUR - 1000)))

    async def is_near() -> bool:
        return (await repository.get(session.id)).is_near_expiration

    await wait_until(is_near)
    await repository.renew(session.id)
    assert (await repository.sweep()).warned == 0
    assert (await repository.count()).near_expiration == 0


async def test_a_backlog_is_swept_in_bounded_steps(repository: SessionRepository) -> None:
    """250 sessions of one user take three steps, and are counted as expired throughout."""
    user = str(uuid4())
    await asyncio.gather(*(repository.create(new(BRIEF, user)) for _ in range(250)))
    await gone(repository, await repository.create(new(BRIEF, user)))
    lasting = await repository.create(new(LASTING, user))
    expired = []
    more = True
    while more:
        counts = await repository.count()
        assert (counts.active, counts.expired) == (1, 251)
        page = await repository.list_page(limit=10, user_id=user)
        assert (page.total, [session.id for session in page.sessions]) == (1, [lasting.id])
        report = await repository.sweep()
        expired.append(report.expired)
        more = report.more
    assert sum(expired) == 251
    assert max(expired) == 100


async def test_a_session_that_vanished_leaves_the_listings(
    repository: SessionRepository, redis: Any
) -> None:
    """Where a key was taken behind our back, the sweep notices and mends the listings."""
    session = await repository.create(new(TimeoutConfig(HOUR, True, HOUR, HOUR)))
    await redis.delete(f"test:{{{session.id[:2]}}}:id:{session.id}")
    assert (await repository.list_page(limit=10)).sessions == []
    assert (await repository.sweep()).repaired == 2
    assert await redis.keys("*:users") == []
    assert (await repository.count()).active == 0


async def test_messages_go_when_the_session_runs_out(
    repository: SessionRepository, redis: Any
) -> None:
    """The conversation of an expired session is not kept."""
    session = await repository.create(new(BRIEF))
    await repository.send(session.id, HELLO)
    await gone(repository, session)
    await repository.sweep()
    assert await redis.keys("*:msg:*") == []


async def test_an_index_that_was_empty_gets_its_ttl_again(
    repository: SessionRepository, redis: Any
) -> None:
    """No key is left without a TTL where its last entry went and another came."""
    user = str(uuid4())
    for _ in range(2):
        session = await repository.create(new(LASTING, user))
        await repository.end(session.id)
    await repository.create(new(LASTING, user))
    assert [key for key in await redis.keys("*") if await redis.ttl(key) < 0] == []


@pytest.mark.parametrize("times", [200])
async def test_messages_at_once_are_a_millisecond_apart(
    repository: SessionRepository, times: int
) -> None:
    """A cursor of a millisecond is exact, however fast they come."""
    session = await repository.create(new())
    sent = await asyncio.gather(*(repository.send(session.id, HELLO) for _ in range(times)))
    created = sorted(message.created_at for message, _, _ in sent)
    assert len(set(created)) == times
    assert max(renewed.renewal_count for _, renewed, _ in sent) == times
