"""Listings of limited credentials are those of a model: exact pages, each session once.

A credential is limited to a user or to agents, or not at all (access.md, "Policy").
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_service.composition import open_store
from session_service.domain.credentials import ALL_PERMISSIONS, Credential, Kind
from session_service.domain.errors import NotPermitted
from session_service.domain.sessions import NewSession, SessionPage
from session_service.store.sessions.merging import take_merged
from session_service.store.sessions.repository import SessionRepository
from session_service.store.sessions.scope import Scope
from tests.model.test_rules import SETTINGS, Clock
from tests.support.factories import BRIEF, LASTING

USERS = [str(UUID(int=n << 120)) for n in (1, 255)]  # in different shards
AGENTS = [str(UUID(int=n)) for n in (1, 2, 1 << 127)]


@dataclass
class Made:
    """A session of the model. Times are epoch milliseconds."""

    id: str
    user: str
    agent: str
    created: int
    active: int


@dataclass
class Query:
    """A filter of sessions, and how to list them."""

    user: str | None
    agent: str | None
    limit: int
    by_activity: bool

    def matches(self, session: Made) -> bool:
        return self.user in (None, session.user) and self.agent in (None, session.agent)


USER, AGENT = st.sampled_from(USERS), st.sampled_from(AGENTS)
STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "create", "brief"]), USER, AGENT)
    | st.tuples(st.just("touch"), st.integers(0, 20))
    | st.tuples(st.just("wait"), st.sampled_from([1, 1, 1, BRIEF.timeout_ms])),
    min_size=10,
    max_size=40,
)
LIMITS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(lambda user: {"user": user}, USER),
    st.builds(lambda agents: {"agents": agents}, st.frozensets(AGENT, min_size=1)),
    st.just({"agents": frozenset(AGENTS)}),
    st.just({}),
)
CREDENTIALS = LIMITS.map(
    lambda limits: Credential(
        kind=Kind.KEY, id="k", name="k", permissions=ALL_PERMISSIONS, **limits
    )
)
QUERIES = st.builds(
    Query, st.none() | USER, st.none() | AGENT, st.integers(1, 6), by_activity=st.booleans()
)


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, credential=CREDENTIALS, query=QUERIES)
def test_a_listing_is_that_of_the_model(
    steps: list[Any], credential: Credential, query: Query
) -> None:
    """Pages, orders, totals and counts are exact, and of no session of others."""
    clock = Clock()
    with clock.installed():
        asyncio.run(compare(clock, steps, credential, query))


async def compare(clock: Clock, steps: list[Any], credential: Credential, query: Query) -> None:
    async with open_store(SETTINGS) as store:
        made = await carry_out(store.repository, clock, steps)
        limited = store.repository.scoped(Scope(store.executor, credential=credential))
        if query.user not in (None, credential.user or query.user) or (
            query.agent is not None and query.agent not in (credential.agents or AGENTS)
        ):
            with pytest.raises(NotPermitted):
                await pages(limited, query)
            with pytest.raises(NotPermitted):
                await limited.end_all(user_id=query.user, agent_id=query.agent)
            return
        visible = [each for each in made if exists_for(credential, each)]
        expected = [each for each in visible if query.matches(each)]
        query.by_activity &= query.user is not None
        found = await pages(limited, query)
        check_pages(found, expected, credential, query)
        for page in found:
            assert page.total == len(expected)
            assert page.counts.active == (len(visible) if credential.is_limited else len(made))
        ended, more = 0, True
        while more:  # a call that takes two seconds leaves the rest to the next
            number, more = await limited.end_all(user_id=query.user, agent_id=query.agent)
            ended += number
        assert ended == len(expected)
        left = {each.id for each in made} - {each.id for each in expected}
        everything = Query(None, None, 100, by_activity=False)
        (rest,) = await pages(store.repository, everything)
        assert {session.id for session in rest.sessions} == left


async def carry_out(repository: SessionRepository, clock: Clock, steps: list[Any]) -> list[Made]:
    """Create sessions and let time pass; return those that are alive."""
    made: list[Made] = []
    over: list[tuple[int, Made]] = []
    for step in steps:
        match step:
            case ("wait", ms):
                clock.ms += ms
            case ("touch", n):
                lasting = [each for each in made if not any(each is brief for _, brief in over)]
                for each in lasting[n : n + 1]:
                    await repository.heartbeat(each.id)
                    each.active = clock.ms
            case (kind, user, agent):
                config = LASTING if kind == "create" else BRIEF
                session = await repository.create(NewSession(agent, user, config, b"{}"))
                made.append(Made(session.id, user, agent, clock.ms, clock.ms))
                if kind == "brief":
                    over.append((clock.ms + BRIEF.timeout_ms, made[-1]))
    gone = [each for end, each in over if end <= clock.ms]
    return [each for each in made if each not in gone]


def exists_for(credential: Credential, session: Made) -> bool:
    """Return whether a session exists for a credential."""
    return credential.user in (None, session.user) and session.agent in (
        credential.agents or AGENTS
    )


async def pages(repository: SessionRepository, query: Query) -> list[SessionPage]:
    """Read all pages."""
    found: list[SessionPage] = []
    while not found or found[-1].next_cursor:
        page = await repository.list_page(
            limit=query.limit,
            user_id=query.user,
            agent_id=query.agent,
            cursor=found[-1].next_cursor if found else None,
            by_activity=query.by_activity,
        )
        found.append(page)
    return found


def check_pages(
    found: list[SessionPage], expected: list[Made], credential: Credential, query: Query
) -> None:
    """Check that the pages are full, and have the expected sessions in order."""
    assert all(len(page.sessions) == query.limit for page in found[:-1])
    ids = [session.id for page in found for session in page.sessions]
    assert sorted(ids) == sorted(each.id for each in expected)
    made = {each.id: each for each in expected}
    if query.by_activity:
        times = [(made[each].active, made[each].created) for each in ids]
        assert times == sorted(times, reverse=True)
    elif query.user or credential.user:
        created = [made[each].created for each in ids]
        assert created == sorted(created, reverse=True)
    elif credential.agents and len(credential.agents) > 1:
        agents = [made[each].agent for each in ids]
        assert agents == sorted(agents)


PARTS = st.lists(st.lists(st.binary(min_size=1, max_size=2), unique=True).map(sorted), max_size=5)


@given(parts=PARTS, size=st.integers(1, 4), most=st.integers(1, 20))
def test_parts_are_merged_in_order(parts: list[list[bytes]], size: int, most: int) -> None:
    """The first items come in one order, and at most a batch of each part is read in vain."""
    taken: list[bytes] = []
    read = [0] * len(parts)

    def take(item: bytes) -> bool:
        taken.append(item)
        return len(taken) < most

    async def batch(n: int) -> Sequence[bytes]:
        start, read[n] = read[n], read[n] + size
        return parts[n][start : start + size]

    reads = [lambda n=n: batch(n) for n in range(len(parts))]
    asyncio.run(take_merged(reads, bytes, take))
    assert taken == sorted(item for part in parts for item in part)[:most]
    items = sum(min(number, len(part)) for number, part in zip(read, parts, strict=True))
    assert items <= len(taken) + size * len(parts)
