"""Any sequence of operations, at any time, has the same effect on the service and the model."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from session_service.composition import Store, open_store
from session_service.domain.errors import (
    RenewalFailed,
    SessionExpired,
    SessionNotFound,
    TooManySessions,
    ValidationFailed,
)
from session_service.domain.messages import NewMessage
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import TimeoutChange, TimeoutConfig, to_minutes
from session_service.settings import Settings
from session_service.store.client.factory import connect
from session_service.store.sessions.repository import SessionRepository
from tests.model.model import ModelSession
from tests.support.factories import another_node

RETENTION = 50_000
MEMORY = "memory://"  # each client has a store of its own
SETTINGS = Settings(redis_url=MEMORY, store_timeout=5, retention_minutes=to_minutes(RETENTION))
WHO = str(UUID(int=7))
DURATIONS = st.integers(1, 100_000)
HELLO = NewMessage("Hello", None, b"{}", None)

CONFIGS = st.builds(TimeoutConfig, DURATIONS, st.booleans(), DURATIONS, DURATIONS)
CHANGES = st.builds(
    TimeoutChange,
    *(st.none() | values for values in (DURATIONS, st.booleans(), DURATIONS, DURATIONS)),
)
VALUES: st.SearchStrategy[Any] = st.none() | st.integers() | st.just([])
PATCHES = st.dictionaries(st.sampled_from("abc"), VALUES)
NAMES = ("get", "renew", "heartbeat", "heartbeat", "find", "send", "send", "sweep", "end")
OPERATIONS = st.lists(
    st.sampled_from(NAMES)
    | st.tuples(st.just("wait"), st.integers(0, 60_000))
    | st.tuples(st.just("change"), CHANGES)
    | st.tuples(st.just("merge"), PATCHES),
    max_size=20,
)


class Clock:
    """The clock of fakeredis, which only the test moves."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> float:
        return self.ms / 1000 + 0.0001  # so that the division does not round down

    def installed(self) -> AbstractContextManager[Any]:
        return patch.object(time, "time", self)


@settings(max_examples=60, deadline=None)
@given(config=CONFIGS, operations=OPERATIONS)
def test_the_service_follows_the_model(config: TimeoutConfig, operations: list[Any]) -> None:
    """Outcome, deadline, counts, messages and announced renewals are those of the model."""
    clock = Clock()
    with clock.installed():
        asyncio.run(compare(clock, config, operations))


async def compare(clock: Clock, config: TimeoutConfig, operations: list[Any]) -> None:
    client = connect(MEMORY, 5)
    async with open_store(SETTINGS, client) as store:
        model = await compare_in(store, clock, config, operations)
        announced = [
            fields[b"event"].partition(b" ")[0]
            for key in await client.keys("*:events")
            for _, fields in await client.xrange(key)
        ]
        assert announced.count(b"renewed") == model.announced


async def compare_in(
    store: Store, clock: Clock, config: TimeoutConfig, operations: list[Any]
) -> ModelSession:
    repository = store.repository
    created = await repository.create(NewSession(WHO, WHO, config, b"{}"))
    model = ModelSession(
        created=clock.ms,
        timeout=config.timeout_ms,
        duration=config.max_duration_ms,
        warning=config.warning_ms,
        auto_renew=config.auto_renew,
        retention=RETENTION,
    )
    for operation in operations:
        name, argument = operation if isinstance(operation, tuple) else (operation, None)
        match name:
            case "wait":
                clock.ms += argument
            case "sweep":
                await store.deadlines.sweep()
            case "end":
                was_live = await outcome(repository.end(created.id)) == "live"
                assert was_live == model.end(clock.ms)
            case "get":
                assert await outcome(repository.get(created.id)) == model.state(clock.ms)
            case "find":
                new = NewSession(WHO, WHO, config, b"{}")
                found = repository.get_or_create(new, may_create=False)
                done = await outcome(found)
                assert done == ("live" if model.heartbeat(clock.ms) == "live" else "full")
            case "change":
                done = await outcome(repository.change_timeout(created.id, argument))
                values = {
                    "timeout": argument.timeout_ms,
                    "duration": argument.max_duration_ms,
                    "warning": argument.warning_ms,
                    "auto_renew": argument.auto_renew,
                }
                values = {k: v for k, v in values.items() if v is not None}
                expected = model.change(clock.ms, **values)
                assert done == ("refused" if expected in ("conflict", "past") else expected)
            case "merge":
                patch = msgspec.json.encode(argument)
                done = await outcome(repository.change_metadata(created.id, patch))
                assert done == model.merge(clock.ms, argument)
            case _:
                done = await outcome(
                    getattr(repository, name)(created.id, *[HELLO][: name == "send"])
                )
                assert done == getattr(model, name)(clock.ms)
        if model.state(clock.ms) == "live":
            compare_session(await repository.get(created.id), model)
    # The counts of a node that sweeps may be a second old.
    await compare_counts(another_node(store).repository, created, model, clock.ms)
    return model


async def outcome(call: Coroutine[Any, Any, Any]) -> str:
    """Return the outcome of a call in the words of the model."""
    try:
        await call
    except SessionNotFound:
        return "missing"
    except SessionExpired:
        return "expired"
    except RenewalFailed:
        return "exhausted"
    except ValidationFailed:
        return "refused"
    except TooManySessions:
        return "full"
    return "live"


def compare_session(session: Session, model: ModelSession) -> None:
    assert (session.expires_at, session.renewal_count, session.last_activity) == (
        model.expires,
        model.renewals,
        model.active,
    )
    assert msgspec.json.decode(session.metadata) == model.metadata


async def compare_counts(
    repository: SessionRepository, created: Session, model: ModelSession, now: int
) -> None:
    """Compare counts and listing; only at the end, as fakeredis is slow over 256 shards."""
    state = model.state(now)
    page = await repository.list_page(limit=5, user_id=created.user_id)
    assert (page.counts.active, page.counts.expired) == (state == "live", state == "expired")
    assert [session.id for session in page.sessions] == [created.id] * (state == "live")
    assert page.total == len(page.sessions)
    for session in page.sessions:
        assert page.counts.near_expiration == session.is_near_expiration
        history = await repository.history(created.id, limit=100)
        assert [message.created_at for message in history.messages] == model.messages[::-1]


def test_an_expiry_is_told_a_week_late() -> None:
    """If no node ran for almost seven days after the retention, the expiry is still announced."""
    clock = Clock()
    with clock.installed():
        asyncio.run(expired_late(clock, 7 * 24 * 3_600_000 - 1000))


async def expired_late(clock: Clock, late: int) -> None:
    client = connect(MEMORY, 5)
    async with open_store(SETTINGS, client) as store:
        config = TimeoutConfig(30_000, True, 60_000, 1000)
        created = await store.repository.create(NewSession(WHO, WHO, config, b"{}"))
        await store.repository.send(created.id, HELLO)
        clock.ms = created.expires_at + RETENTION + late
        assert await outcome(store.repository.get(created.id)) == "missing"
        acted = await store.deadlines.sweep()
        assert (acted.expired, acted.repaired) == (1, 0)
        assert await client.keys("*:msg:*") == []
