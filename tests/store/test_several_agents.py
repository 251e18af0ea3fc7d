"""Listings and bulk ends of a key that is bound to several agents, with many and large sessions."""

import asyncio

import pytest

from session_service.composition import Store
from session_service.domain.credentials import Credential
from session_service.domain.sessions import NewSession, Session, SessionPage
from session_service.domain.timeouts import TimeoutConfig
from session_service.store.sessions.repository import SessionRepository
from session_service.store.sessions.scope import Scope
from tests.support.access import key
from tests.support.factories import BRIEF, LASTING, new_uuid
from tests.support.waiting import a_moment_later

AGENTS = sorted(new_uuid() for _ in range(3))
STRANGER = new_uuid()  # an agent of another key
BOUND = key("bound", frozenset(AGENTS))
USER = new_uuid()
LARGE = b'{"a":"' + b"x" * 10_000 + b'"}'


def limited_to(store: Store, credential: Credential = BOUND) -> SessionRepository:
    return store.repository.scoped(Scope(store.executor, credential=credential))


async def create_many(
    store: Store,
    agent: str,
    count: int,
    config: TimeoutConfig = LASTING,
    *,
    user: str = USER,
    metadata: bytes = b"{}",
) -> list[Session]:
    new = NewSession(agent, user, config, metadata)
    return await asyncio.gather(*(store.repository.create(new) for _ in range(count)))


async def pages(
    repository: SessionRepository, limit: int, user: str | None, *, by_activity: bool = False
) -> list[SessionPage]:
    found: list[SessionPage] = []
    while not found or found[-1].next_cursor:
        cursor = found[-1].next_cursor if found else None
        found.append(
            await repository.list_page(
                limit=limit, user_id=user, cursor=cursor, by_activity=by_activity
            )
        )
    return found


@pytest.mark.parametrize("limit", [7, 50, 1000])
@pytest.mark.parametrize("metadata", [b"{}", LARGE], ids=["small", "large"])
async def test_a_user_s_sessions_with_several_agents_come_newest_first(
    store: Store, limit: int, metadata: bytes
) -> None:
    """They are in one order, however many are with one agent, and however large they are."""
    made = []
    for agent, count in ((0, 5), (1, 70), (2, 3), (0, 40), (1, 2), (2, 30)):
        made += await create_many(store, AGENTS[agent], count, metadata=metadata)
        await create_many(store, STRANGER, 1)
        await a_moment_later()
    found = await pages(limited_to(store), limit, USER)
    ids = [session.id for page in found for session in page.sessions]
    order = sorted(made, key=lambda session: (-session.created_at, session.id))
    assert ids == [session.id for session in order]
    assert {page.total for page in found} == {len(made)}
    assert {page.counts.active for page in found} == {len(made)}
    if metadata is LARGE and limit == 1000:
        assert len(found) == 2  # of a mebibyte at most


async def test_the_latest_activity_comes_first_with_several_agents(store: Store) -> None:
    """The newest 1,000 sessions of all agents together are sorted; the total counts the others."""
    old = [session for agent in AGENTS for session in await create_many(store, agent, 100)]
    await a_moment_later()
    made = await create_many(store, AGENTS[2], 400)
    made += await create_many(store, AGENTS[0], 300)
    await a_moment_later()
    made += await create_many(store, AGENTS[1], 299)
    await create_many(store, STRANGER, 5)
    await a_moment_later()
    for session in (old[150], made[500]):  # the first of them is too old
        await store.repository.heartbeat(session.id)
        await a_moment_later()
    found = await pages(limited_to(store), 300, USER, by_activity=True)
    ids = [session.id for page in found for session in page.sessions]
    assert ids[0] == made[500].id
    assert len(ids) == len(set(ids)) == 1000
    assert len(set(ids) - {session.id for session in made}) == 1  # one of the old ones
    assert {(page.total, page.is_truncated) for page in found} == {(1299, True)}


async def test_totals_of_several_agents_are_exact_however_much_is_due(store: Store) -> None:
    """Sessions that are over do not count, also if more are due than one script looks up."""
    for agent in (*AGENTS, STRANGER):
        await create_many(store, agent, 150, BRIEF)
        await create_many(store, agent, 2)
    await a_moment_later(BRIEF.timeout_ms + 5)
    bound = limited_to(store)
    for user in (USER, None):
        page = await bound.list_page(limit=100, user_id=user)
        assert (len(page.sessions), page.total, page.counts.active) == (6, 6, 6)
        assert page.counts.expired == 0
    assert (await bound.count()).active == 6


async def test_a_bulk_end_leaves_the_sessions_of_other_agents(store: Store) -> None:
    """All sessions of the key's agents end, and no others: of a user, or of all."""
    other_user = new_uuid()
    for agent in (*AGENTS, STRANGER):
        for user in (USER, other_user):
            await create_many(store, agent, 120, user=user)
    bound = limited_to(store)
    assert tuple(await bound.end_all(user_id=USER)) == (360, False)
    assert (await store.repository.list_page(limit=1)).total == 600
    assert tuple(await bound.end_all()) == (360, False)
    left = await store.repository.list_page(limit=1000)
    assert {session.agent_id for session in left.sessions} == {STRANGER}
    assert left.total == 240
