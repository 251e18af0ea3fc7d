"""SESSION_MAX_PER_USER_POLICY=end-oldest: a new session takes the place of the user's oldest."""

import asyncio

import pytest
from redis.asyncio import Redis

from session_service.composition import Store
from session_service.domain.credentials import Credential
from session_service.domain.errors import SessionNotFound, TooManySessions
from session_service.domain.ids import shard_of_user
from session_service.domain.sessions import NewSession, Session, SessionLimits
from session_service.store.sessions.idempotency import ReplayingExecutor
from session_service.store.sessions.repository import SessionRepository
from session_service.store.sessions.scope import Scope
from tests.support.access import AGENT, ANN, BOB, OTHER_AGENT, key, user
from tests.support.factories import (
    BRIEF,
    HELLO,
    KEYS,
    LASTING,
    another_node,
    create_session,
    own_key,
    recorded_events,
)
from tests.support.waiting import wait_until

MOST = 3


@pytest.fixture
def limits() -> SessionLimits:
    return SessionLimits(per_user=MOST, ends_oldest=True)


async def fill(repository: SessionRepository, number: int = MOST) -> list[Session]:
    """Create sessions of ANN, each in a millisecond of its own; return them, the oldest first."""
    sessions = []
    for _ in range(number):
        sessions.append(await create_session(repository, user_id=ANN))
        await asyncio.sleep(0.002)
    return sessions


async def live(repository: SessionRepository) -> set[str]:
    return {s.id for s in (await repository.list_page(limit=100, user_id=ANN)).sessions}


async def ends(redis: Redis) -> list[tuple[str, dict[str, object]]]:
    events = await recorded_events(redis, shard_of_user(ANN))
    return [
        (e.session_id, e.details.to_json() if e.details else {})
        for e in events
        if e.type == "ended"
    ]


def of_agents(repository: SessionRepository, *agents: str) -> SessionRepository:
    credential = key("bound", frozenset(agents))
    return repository.scoped(Scope(repository.scope.executor, credential=credential))


async def test_the_oldest_session_is_ended(repository: SessionRepository, redis: Redis) -> None:
    """With the most sessions that a user may have, the oldest makes room, and others stay."""
    others = await create_session(repository, user_id=BOB)
    first, *rest = await fill(repository)
    await repository.send(first.id, HELLO)
    await repository.heartbeat(first.id)
    new = await create_session(repository, user_id=ANN)
    assert await live(repository) == {new.id, *(session.id for session in rest)}
    with pytest.raises(SessionNotFound):
        await repository.get(first.id)
    assert await redis.exists(own_key("messages", first.id)) == 0
    assert await ends(redis) == [(first.id, {"reason": "replaced"})]
    assert await repository.get(others.id)


@pytest.mark.parametrize("credential", [user(ANN), key("all")], ids=["user", "key"])
async def test_the_event_says_that_the_limit_ended_it(
    repository: SessionRepository, redis: Redis, credential: Credential
) -> None:
    """With access control, the event of a replaced session has by: limit."""
    first, *_ = await fill(repository)
    scoped = repository.scoped(Scope(repository.scope.executor, credential=credential))
    await scoped.create(NewSession(AGENT, ANN, LASTING, b"{}"))
    assert await ends(redis) == [(first.id, {"reason": "replaced", "by": "limit"})]


async def test_get_or_create_ends_one_only_for_a_new_session(
    repository: SessionRepository,
) -> None:
    """The session that exists is returned, and no session is ended; a new one replaces one."""
    first, *rest = await fill(repository)
    existing = NewSession(rest[0].agent_id, ANN, LASTING, b"{}")
    found, is_new = await repository.get_or_create(existing, may_create=True)
    assert (found.id, is_new) == (rest[0].id, False)
    assert len(await live(repository)) == MOST
    wanted = NewSession(AGENT, ANN, LASTING, b"{}")
    new, is_new = await repository.get_or_create(wanted, may_create=True)
    assert is_new
    assert await live(repository) == {new.id, *(session.id for session in rest)}
    assert first.id not in await live(repository)


async def test_a_creation_that_is_refused_ends_nothing(repository: SessionRepository) -> None:
    """If the page may not create a session, the oldest one stays."""
    sessions = await fill(repository)
    new = NewSession(AGENT, ANN, LASTING, b"{}")
    with pytest.raises(TooManySessions):
        await repository.get_or_create(new, may_create=False)
    assert await live(repository) == {session.id for session in sessions}


async def test_a_replay_ends_nothing_more(repository: SessionRepository, redis: Redis) -> None:
    """A creation that is sent again with its key returns its session and ends no other one."""
    await fill(repository)
    for _ in range(2):
        once = ReplayingExecutor(repository.scope.executor, KEYS, b"seed" * 8)
        request = repository.scoped(Scope(once, once.random))
        await request.create(NewSession(AGENT, ANN, LASTING, b"{}"))
    assert len(await ends(redis)) == 1
    assert len(await live(repository)) == MOST


async def test_concurrent_creations_keep_the_limit(repository: SessionRepository) -> None:
    """However many are created at once, the user has the most that are allowed."""
    await asyncio.gather(*(create_session(repository, user_id=ANN) for _ in range(20)))
    assert len(await live(repository)) == MOST


class TestRetention:
    """The conversation of a replaced session."""

    @pytest.fixture
    def history_ms(self) -> int:
        return 60_000

    async def test_it_is_retained_as_at_any_end(self, repository: SessionRepository) -> None:
        """If conversations are kept, so is that of a replaced session."""
        first, *_ = await fill(repository)
        await repository.send(first.id, HELLO)
        await create_session(repository, user_id=ANN)
        history = await repository.retained_history(first.id, limit=5)
        assert [message.content for message in history.messages] == [HELLO.content]


async def test_a_lowered_limit_is_reached_by_a_creation(store: Store) -> None:
    """After the limit was lowered, a creation ends as many as it takes."""
    sessions = await fill(store.repository)
    lower = another_node(store, limits=SessionLimits(per_user=1, ends_oldest=True)).repository
    new = await create_session(lower, user_id=ANN)
    assert await live(lower) == {new.id}
    assert new.id not in {session.id for session in sessions}


async def test_sessions_that_are_over_make_room(
    repository: SessionRepository, redis: Redis
) -> None:
    """One that has expired, and was not swept yet, is not ended, and needs no other to be."""
    expired = await create_session(repository, BRIEF, user_id=ANN)
    await asyncio.sleep(0.002)  # so that it is the oldest
    rest = await fill(repository, MOST - 1)

    async def is_over() -> bool:
        seconds, microseconds = await redis.time()
        return bool(seconds * 1000 + microseconds // 1000 > expired.expires_at)

    await wait_until(is_over)
    new = await create_session(repository, user_id=ANN)
    assert await live(repository) == {new.id, *(session.id for session in rest)}
    assert await ends(redis) == []


@pytest.mark.parametrize("number", [1, MOST])
async def test_unreadable_sessions_count_and_stay(
    repository: SessionRepository, redis: Redis, number: int
) -> None:
    """A damaged record is left as it is: the oldest of the others is ended, if there is one."""
    sessions = await fill(repository)
    for session in sessions[:number]:
        await redis.set(own_key("session", session.id), b"2 17684", ex=60)
    if number == MOST:
        with pytest.raises(TooManySessions):
            await create_session(repository, user_id=ANN)
        assert await ends(redis) == []
        return
    await create_session(repository, user_id=ANN)
    assert await ends(redis) == [(sessions[number].id, {"reason": "replaced"})]
    assert await redis.get(own_key("session", sessions[0].id)) == b"2 17684"


async def test_a_key_ends_only_sessions_of_its_agents(
    repository: SessionRepository, redis: Redis
) -> None:
    """A key that is bound to agents replaces the oldest of theirs, and never another one."""
    for agent in (OTHER_AGENT, AGENT, OTHER_AGENT):
        await repository.create(NewSession(agent, ANN, LASTING, b"{}"))
        await asyncio.sleep(0.002)
    bound = of_agents(repository, AGENT)
    for _ in range(2):
        await bound.create(NewSession(AGENT, ANN, LASTING, b"{}"))
    page = await repository.list_page(limit=9, user_id=ANN)
    agents = sorted(session.agent_id for session in page.sessions)
    assert agents == sorted([AGENT, OTHER_AGENT, OTHER_AGENT])
    assert len(await ends(redis)) == 2
    with pytest.raises(TooManySessions):
        await of_agents(repository, ANN).create(NewSession(ANN, ANN, LASTING, b"{}"))


async def test_nothing_is_ended_if_there_is_no_room_without_it(store: Store, redis: Redis) -> None:
    """If too few sessions can be ended, the creation is refused and all of them stay."""
    await fill(store.repository)
    await store.repository.create(NewSession(AGENT, ANN, LASTING, b"{}"))
    lower = another_node(store, limits=SessionLimits(per_user=2, ends_oldest=True)).repository
    before = await ends(redis)
    with pytest.raises(TooManySessions):
        await of_agents(lower, AGENT).create(NewSession(AGENT, ANN, LASTING, b"{}"))
    assert await ends(redis) == before
