"""Every deadline is acted on once, by whichever sweep comes first, however late."""

import asyncio
from typing import Any

import pytest

from session_service.domain.errors import SessionExpired, SessionNotFound
from session_service.domain.sessions import Session
from session_service.domain.timeouts import TimeoutConfig
from session_service.store.client.executor import ScriptExecutor
from session_service.store.records import pack_id
from session_service.store.scripts.repairs import REPAIR, RepairArguments
from session_service.store.sessions.deadlines import Deadlines
from session_service.store.sessions.repository import SessionRepository
from tests.support.factories import (
    BRIEF,
    HELLO,
    HOUR_MS,
    KEYS,
    create_session,
    new_uuid,
    own_key,
    recorded_events,
    shard_key,
)
from tests.support.waiting import wait_until


async def wait_until_expired(repository: SessionRepository, session: Session) -> None:
    """Wait until a session has expired."""

    async def has_run_out() -> bool:
        try:
            await repository.get(session.id)
        except (SessionExpired, SessionNotFound):
            return True
        return False

    await wait_until(has_run_out)


async def events(redis: Any, kind: str) -> list[str]:
    """Return the ids of the sessions that have an event of a type in the outbox."""
    return [
        event.session_id
        for key in await redis.keys("*:events")
        for event in await recorded_events(redis, key.decode().partition("{")[2][:2])
        if event.type == kind
    ]


async def test_each_expiry_is_acted_on_once(
    repository: SessionRepository, deadlines: Deadlines, redis: Any
) -> None:
    """Ten sweeps at once announce each of twenty expiries once."""
    sessions = [await create_session(repository, BRIEF) for _ in range(20)]
    for session in sessions:
        await wait_until_expired(repository, session)
    reports = await asyncio.gather(*(deadlines.sweep() for _ in range(10)))
    assert sum(report.expired for report in reports) == 20
    announced = await events(redis, "expired")
    assert sorted(announced) == sorted(session.id for session in sessions)


async def test_a_warning_is_told_once_for_each_deadline(
    repository: SessionRepository, deadlines: Deadlines
) -> None:
    """A session past its threshold is warned about once, and again after a renewal."""
    session = await create_session(repository, TimeoutConfig(HOUR_MS, True, 9 * HOUR_MS, HOUR_MS))
    assert [(await deadlines.sweep()).warned for _ in range(2)] == [1, 0]
    await repository.renew(session.id)
    assert [(await deadlines.sweep()).warned for _ in range(2)] == [1, 0]


async def test_a_renewed_session_is_not_warned_about_early(
    repository: SessionRepository, deadlines: Deadlines
) -> None:
    """A renewal moves the warning with the deadline."""
    session = await create_session(
        repository, TimeoutConfig(HOUR_MS, True, 9 * HOUR_MS, HOUR_MS - 1000)
    )

    async def is_near() -> bool:
        return (await repository.get(session.id)).is_near_expiration

    await wait_until(is_near)
    await repository.renew(session.id)
    assert (await deadlines.sweep()).warned == 0
    assert (await repository.count()).near_expiration == 0


async def test_a_backlog_is_swept_in_bounded_steps(
    repository: SessionRepository, deadlines: Deadlines
) -> None:
    """100 sessions of one user take four sweeps, and are counted as expired from the start."""
    user = new_uuid()
    await asyncio.gather(*(create_session(repository, BRIEF, user_id=user) for _ in range(99)))
    await wait_until_expired(repository, await create_session(repository, BRIEF, user_id=user))
    lasting = await create_session(repository, user_id=user)
    expired = []
    more = True
    while more:
        counts = await repository.count()
        assert (counts.active, counts.expired) == (1, 100)
        page = await repository.list_page(limit=10, user_id=user)
        assert (page.total, [session.id for session in page.sessions]) == (1, [lasting.id])
        acted = await deadlines.sweep()
        expired.append(acted.expired)
        more = bool(acted.shards_with_more)
    assert expired == [32, 32, 32, 4]


async def test_a_session_that_vanished_leaves_the_listings(
    repository: SessionRepository, deadlines: Deadlines, redis: Any
) -> None:
    """If a session's key was deleted by another program, the sweep repairs the listings."""
    user = new_uuid()
    others = [
        await create_session(repository, user_id=user) for _ in range(300)
    ]  # a sweep looks at 500
    session = await create_session(
        repository, TimeoutConfig(HOUR_MS, True, HOUR_MS, HOUR_MS), user_id=user
    )
    await repository.send(session.id, HELLO)
    await redis.delete(own_key("session", session.id))
    assert [(await deadlines.sweep()).repaired for _ in range(2)] == [2, 0]
    page = await repository.list_page(limit=1000, user_id=user)
    assert {each.id for each in page.sessions} == {each.id for each in others}
    assert (page.total, page.counts.active) == (300, 300)
    assert await redis.keys("*:msg:*") == []


async def test_a_repair_takes_nothing_that_exists(
    repository: SessionRepository, executor: ScriptExecutor
) -> None:
    """A session that exists again when its entries are to be removed keeps them."""
    session = await create_session(repository)
    await repository.send(session.id, HELLO)
    after: bytes | None = b""
    lost = pack_id(session.id)
    while after is not None:
        keys = KEYS.of_shard(REPAIR.keys, session.id[:2])
        removed, after, _ = await executor.run(
            REPAIR, keys, RepairArguments(b"", after, 9, (lost,))
        )
        assert removed == 0
        after = after or None
    assert (await repository.count()).active == 1
    assert [each.id for each in (await repository.list_page(limit=9)).sessions] == [session.id]
    assert len((await repository.history(session.id, limit=9)).messages) == 1


async def test_messages_go_when_the_session_runs_out(
    repository: SessionRepository, deadlines: Deadlines, redis: Any
) -> None:
    """The conversation of an expired session is deleted."""
    session = await create_session(repository, TimeoutConfig(300, False, HOUR_MS, 1))
    await repository.send(session.id, HELLO)
    await wait_until_expired(repository, session)
    await deadlines.sweep()
    assert await redis.keys("*:msg:*") == []


class TestWithoutRetention:
    """A service that keeps expired sessions for 1 ms."""

    @pytest.fixture
    def retention_ms(self) -> int:
        return 1

    async def test_an_expiry_is_told_however_late(
        self, repository: SessionRepository, deadlines: Deadlines, redis: Any
    ) -> None:
        """The expiry is announced even if no node ran during all of the retention."""
        session = await create_session(repository, BRIEF)
        await repository.send(session.id, HELLO)

        async def is_forgotten() -> bool:
            try:
                await repository.get(session.id)
            except SessionNotFound:
                return True
            except SessionExpired:
                pass
            return False

        await wait_until(is_forgotten)
        for call in (repository.renew, repository.heartbeat, repository.end):
            with pytest.raises(SessionNotFound):
                await call(session.id)
        counts = await repository.count()
        assert (counts.active, counts.expired) == (0, 0)
        for _ in range(2):
            await deadlines.sweep()
            assert await events(redis, "expired") == [session.id]
        assert set(await redis.keys("*")) == {shard_key("events", session.id).encode()}


@pytest.mark.parametrize("part", ["session", "messages", "warn", "listing", "events"])
async def test_deadlines_are_kept_for_a_week_without_a_node(
    repository: SessionRepository, retention_ms: int, redis: Any, part: str
) -> None:
    """Every key that an expiry needs outlives the session and its retention by seven days."""
    session = await create_session(repository)
    await repository.send(session.id, HELLO)
    of_session = part in ("session", "messages")
    key = own_key(part, session.id) if of_session else shard_key(part, session.id)
    week = 7 * 24 * HOUR_MS
    lasts = session.timeout.timeout_ms if part == "session" else session.timeout.max_duration_ms
    assert await redis.pttl(key) > lasts + retention_ms + week - 60_000
