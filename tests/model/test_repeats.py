"""Any sequence of operations, each requested twice with a key, has the effect of one request."""

import asyncio
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from session_service.composition import open_store
from session_service.domain.errors import ServiceError
from session_service.domain.sessions import NewSession
from session_service.domain.timeouts import TimeoutConfig
from session_service.store.client.factory import connect
from session_service.store.sessions.repository import SessionRepository
from session_service.store.sessions.scope import Scope
from tests.model.test_rules import CONFIGS, HELLO, MEMORY, SETTINGS, Clock

WHO = str(UUID(int=7))

# An operation, the index of its session, and the milliseconds until it is repeated.
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["create", "find", "renew", "heartbeat", "heartbeat", "send", "send", "end"]
        ),
        st.integers(0, 1),  # index of the session
        st.integers(0, 30_000),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(config=CONFIGS, operations=OPERATIONS)
def test_asked_twice_is_done_once(config: TimeoutConfig, operations: list[Any]) -> None:
    """The outcome of each operation, and the state in the end, are the same with repeats."""
    once = asyncio.run(play(config, operations, repeat=False))
    assert asyncio.run(play(config, operations, repeat=True)) == once


async def play(config: TimeoutConfig, operations: list[Any], *, repeat: bool) -> list[Any]:
    """Return the replies and the final state, without the ids."""
    clock = Clock()
    with clock.installed():
        client = connect(MEMORY, 5)
        async with open_store(SETTINGS, client) as store:
            return await play_in(store.repository, client, clock, config, operations, repeat=repeat)


async def play_in(
    repository: SessionRepository,
    client: Any,
    clock: Clock,
    config: TimeoutConfig,
    operations: list[Any],
    *,
    repeat: bool,
) -> list[Any]:
    shape = NewSession(WHO, WHO, config, b"{}")
    sessions = []
    for _ in range(2):
        sessions.append((await repository.create(shape)).id)
        clock.ms += 1  # or the newest would be random
    outcomes: list[Any] = []
    repeats: list[tuple[str, str, str, Any]] = []
    for n, (name, which, pause) in enumerate(operations):
        call = (str(n), name, sessions[which])
        outcome = await perform(repository, shape, *call, with_key=repeat)
        repeats.append((*call, outcome))
        outcomes.append(without_ids(outcome))
        clock.ms += pause + (name in ("create", "find"))  # as above
        if repeat:  # the last operation, and sometimes all
            for *asked_before, before in repeats[-1:] if n % 4 else repeats:
                again = await perform(repository, shape, *asked_before, with_key=True)
                # A failed operation is tried again, and its retention may be over meanwhile.
                has_gone = (before, again) == ("SessionExpired", "SessionNotFound")
                assert again == before or has_gone
    left = [await perform(repository, shape, "", "get", session) for session in sessions]
    page = await repository.list_page(limit=100)
    recorded = sorted(
        [fields[b"event"].split()[0] for key in await client.keys("*:events")
         for _, fields in await client.xrange(key)]
    )  # fmt: skip
    return [outcomes, [without_ids(each) for each in left], page.counts, recorded]


async def perform(
    repository: SessionRepository,
    shape: NewSession,
    key: str,
    name: str,
    session_id: str,
    *,
    with_key: bool = False,
) -> Any:
    """Return the result of an operation, or the name of its error."""
    if with_key:
        once = await repository.idempotency_keys.claim(key, f"{name} {session_id}")
        repository = repository.scoped(Scope(once, once.random))
    arguments = {"create": (shape,), "send": (session_id, HELLO)}.get(name, (session_id,))
    try:
        if name == "find":
            return await repository.get_or_create(shape, may_create=True)
        return await getattr(repository, name)(*arguments)
    except ServiceError as error:
        return type(error).__name__


def without_ids(value: Any) -> Any:
    if isinstance(value, tuple):
        return [without_ids(each) for each in value]
    fields = getattr(value, "__struct_fields__", ())
    return {f: getattr(value, f) for f in fields if f != "id"} or value
