"""Counts: those of health are at most a second old, and totals of lists are exact."""

import asyncio
from typing import Any

import pytest

from session_service.composition import Store
from session_service.domain.ids import shard_of_user
from session_service.domain.sessions import NewSession
from session_service.store.sessions.deadlines import Deadlines
from session_service.store.sessions.repository import SessionRepository
from tests.support.factories import BRIEF, LASTING, create_session, new_uuid
from tests.support.waiting import a_moment_later

MANY = 1000  # more than one script looks up


async def commands(redis: Any) -> dict[str, int]:
    """Return how often each command ran since the last CONFIG RESETSTAT, besides these two."""
    stats = await redis.info("commandstats")
    return {
        name.removeprefix("cmdstat_"): each["calls"]
        for name, each in stats.items()
        if "info" not in name and "config" not in name
    }


@pytest.mark.parametrize("store_url", ["valkey"], indirect=True)
async def test_health_costs_a_ping_beside_the_sweep(store: Store, redis: Any) -> None:
    """The store gets only a PING from health while the node sweeps, and nothing for statistics."""
    repository = store.repository
    session = await create_session(repository)
    await create_session(repository, BRIEF)
    await a_moment_later(50)
    await store.deadlines.sweep()
    await redis.config_resetstat()
    counts = await repository.count()
    assert (counts.active, counts.expired) == (1, 1)
    assert await commands(redis) == {"ping": 1}
    page = await repository.list_page(limit=10, user_id=session.user_id)
    assert (page.counts.active, page.counts.expired) == (1, 1)
    assert (await commands(redis))["evalsha"] == 1


async def test_a_total_is_newer_than_the_counts(
    repository: SessionRepository, deadlines: Deadlines
) -> None:
    """A list's total has sessions created or ended since the sweep, and so have its statistics."""
    gone = await create_session(repository)
    await deadlines.sweep()
    kept = [await create_session(repository) for _ in range(3)]
    await repository.end(gone.id)
    page = await repository.list_page(limit=1)
    assert (page.total, page.counts.active) == (3, 3)
    page = await repository.list_page(limit=1, agent_id=kept[0].agent_id)
    assert page.total == 1


async def test_totals_are_exact_however_much_is_due(
    repository: SessionRepository, deadlines: Deadlines
) -> None:
    """Expired sessions are in no total, even if none of a thousand in a shard was swept."""
    user, agent = new_uuid(), new_uuid()
    dead = NewSession(agent, user, BRIEF, b"{}")
    await asyncio.gather(*(repository.create(dead) for _ in range(MANY)))
    alive = NewSession(agent, user, LASTING, b"{}")
    await asyncio.gather(*(repository.create(alive) for _ in range(2)))
    await create_session(repository)
    await a_moment_later(50)
    filters: tuple[dict[str, Any], ...] = ({}, {"user_id": user}, {"agent_id": agent})
    filters += ({"user_id": user, "agent_id": agent},)
    more: Any = True
    while more:
        totals = [(await repository.list_page(limit=1, **each)).total for each in filters]
        assert totals == [3, 2, 2, 2]
        more = (await deadlines.sweep()).shards_with_more
        for _ in range(9):  # or it would take a while
            await deadlines.process_due([shard_of_user(user)])
