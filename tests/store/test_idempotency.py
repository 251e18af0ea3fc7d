"""Claims of idempotency keys, with and without a lease."""

import asyncio
from typing import Any

import pytest

from session_service.domain.budgets import KEYS_PER_SESSION
from session_service.domain.errors import (
    IdempotencyConflict,
    IdempotencyMismatch,
    RecordUnreadable,
    SessionNotFound,
    TooManyKeys,
)
from session_service.store.scripts.sessions import HEARTBEAT
from session_service.store.scripts.variants import recording_reply
from session_service.store.sessions import idempotency
from session_service.store.sessions.idempotency import Claim, ReplayingExecutor
from session_service.store.sessions.repository import SessionRepository
from session_service.store.sessions.scope import Scope
from tests.support.factories import HELLO, KEYS, create_session, new_session, own_key
from tests.support.waiting import wait_until


def _scoped(repository: SessionRepository, once: ReplayingExecutor) -> SessionRepository:
    return repository.scoped(Scope(once, once.random))


async def test_a_claim_is_answered_once(repository: SessionRepository) -> None:
    """A claimed key is a conflict while its request runs, and then has the first response."""
    keys = repository.idempotency_keys
    claim = await keys.claim_with_lease("key", "request")
    with pytest.raises(IdempotencyConflict):
        await keys.claim_with_lease("key", "request")
    with pytest.raises(IdempotencyMismatch):
        await keys.claim_with_lease("key", "another request")
    await keys.record(claim, b"first")
    await keys.record(claim, b"second")
    assert (await keys.claim_with_lease("key", "request")).response == b"first"
    with pytest.raises(IdempotencyMismatch):
        await keys.claim_with_lease("key", "another request")


async def test_what_got_no_answer_begins_anew(repository: SessionRepository) -> None:
    """A key whose request failed can be claimed again at once."""
    keys = repository.idempotency_keys
    await keys.record(await keys.claim_with_lease("key", "request"))
    assert (await keys.claim_with_lease("key", "request")).response is None


async def test_a_dead_node_blocks_a_key_for_a_while_only(
    repository: SessionRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease of a dead node expires, and the key still belongs to the same request."""
    keys = repository.idempotency_keys
    monkeypatch.setattr(idempotency, "_LEASE_MS", 200)
    first = await keys.claim_with_lease("key", "request")

    async def begun() -> Claim | None:
        try:
            return await keys.claim_with_lease("key", "request")
        except IdempotencyConflict:
            return None

    assert await begun() is None
    second = await wait_until(begun)
    assert (second.seed, second.response) == (first.seed, None)
    with pytest.raises(IdempotencyMismatch):
        await keys.claim_with_lease("key", "another request")


async def test_a_claim_without_an_effect_waits_for_nobody(repository: SessionRepository) -> None:
    """If a node died between claim and effect, a repeat carries out the effect."""
    session = await create_session(repository)
    for _ in range(3):
        once = await repository.idempotency_keys.claim("key", "request")
    sent = [
        await _scoped(repository, await repository.idempotency_keys.claim("key", "request")).send(
            session.id, HELLO
        )
        for _ in range(2)
    ]
    again = await _scoped(repository, once).send(session.id, HELLO)
    assert sent == [again, again]
    assert len((await repository.history(session.id, limit=10)).messages) == 1


async def test_all_that_is_remembered_is_in_one_slot_and_goes(
    repository: SessionRepository, redis: Any
) -> None:
    """A recorded outcome is in the slot of its script's keys, and outlives the claim."""
    once = await repository.idempotency_keys.claim("key", "request")
    session = await _scoped(repository, once).create(new_session())
    (claim,) = await redis.keys("*:claim:*")
    (outcome,) = await redis.keys("*:idem:*")
    assert f"{{{session.id[:2]}}}".encode() in outcome
    day = 86_400_000
    assert day - 60_000 < await redis.pttl(claim) <= day
    assert await redis.pttl(outcome) > day


async def test_ids_drawn_from_a_seed_are_as_random_as_others(repository: SessionRepository) -> None:
    """Different idempotency keys yield different session ids."""
    made = [
        await _scoped(
            repository, await repository.idempotency_keys.claim(str(n), "request")
        ).create(new_session())
        for n in range(20)
    ]
    assert len({session.id[2:] for session in made}) == 20
    await asyncio.gather(*(repository.get(session.id) for session in made))


async def bytes_of_heartbeats(
    repository: SessionRepository, redis: Any, session_id: str, times: int
) -> int:
    """Return the bytes that the store keeps for a number of heartbeats, each with its own key."""
    for n in range(times):
        once = await repository.idempotency_keys.claim(f"key {times} {n}", "request")
        await _scoped(repository, once).heartbeat(session_id)
    keys = [key async for key in redis.scan_iter() if b":claim:" in key or b":idem:" in key]
    keys += [key async for key in redis.scan_iter() if b":tails:" in key or b":used:" in key]
    return sum([await redis.memory_usage(key, samples=0) for key in keys])


async def test_a_key_costs_little_however_large_the_session_is(
    repository: SessionRepository, redis: Any, store_url: str
) -> None:
    """A key costs less than 600 bytes, and the session's metadata is stored only once."""
    if store_url == "memory://":
        return  # fakeredis does not report memory
    large = b'{"a":"%b"}' % (b"x" * 10_000)
    session = await create_session(repository, metadata=large)
    first = await bytes_of_heartbeats(repository, redis, session.id, 1)
    assert first < 22_000  # the metadata, in an allocation of twice its size at most
    assert await bytes_of_heartbeats(repository, redis, session.id, 100) - first < 100 * 600


async def test_finding_a_session_with_keys_costs_little(
    repository: SessionRepository, redis: Any
) -> None:
    """A hundred keys that find one large session store its metadata once."""
    new = new_session(metadata=b'{"a":"%b"}' % (b"x" * 10_000))
    await repository.create(new)
    for n in range(100):
        once = await repository.idempotency_keys.claim(f"key {n}", "request")
        _, is_new = await _scoped(repository, once).get_or_create(new, may_create=True)
        assert not is_new
    tails = [key async for key in redis.scan_iter() if b":tails:" in key]
    assert [await redis.hlen(key) for key in tails] == [1]


async def test_a_pair_has_so_many_keys_a_day(repository: SessionRepository, redis: Any) -> None:
    """Beyond the limit a new key finds no session of the user and the agent, without effect."""
    new = new_session()
    session = await repository.create(new)
    first = await repository.idempotency_keys.claim("first", "request")
    done = await _scoped(repository, first).get_or_create(new, may_create=True)
    (used,) = [key async for key in redis.scan_iter() if b":used:" in key]
    assert await redis.get(used) == b"1"
    await redis.set(used, KEYS_PER_SESSION, keepttl=True)
    once = await repository.idempotency_keys.claim("more", "request")
    with pytest.raises(TooManyKeys):
        await _scoped(repository, once).get_or_create(new, may_create=True)
    assert (await repository.get(session.id)).renewal_count == 1
    again = await repository.idempotency_keys.claim("first", "request")
    assert await _scoped(repository, again).get_or_create(new, may_create=True) == done


@pytest.mark.parametrize(
    "metadata",
    [b"{}", '{"a":"\\"\\n%d ü 1 2 1 "}'.encode(), b'{"a":"' + b"x" * 9999 + b'"}'],
    ids=["none", "odd", "large"],
)
async def test_the_outcome_is_whole_whatever_has_become_of_the_session(
    repository: SessionRepository, metadata: bytes
) -> None:
    """A repeat gets the whole outcome, with metadata, after the session has changed or ended."""
    session = await create_session(repository, metadata=metadata)

    async def requested(key: str, name: str, *arguments: Any) -> Any:
        once = await repository.idempotency_keys.claim(key, name)
        return await getattr(_scoped(repository, once), name)(session.id, *arguments)

    calls: list[tuple[Any, ...]] = [("1", "heartbeat"), ("2", "send", HELLO), ("3", "renew")]
    first = [await requested(*call) for call in calls]
    assert first[0].metadata == metadata
    assert [await requested(*call) for call in calls] == first
    await repository.renew(session.id)
    await repository.end(session.id)
    assert [await requested(*call) for call in calls] == first


async def test_what_was_not_done_is_not_remembered(
    repository: SessionRepository, redis: Any
) -> None:
    """A request for a missing session stores its claim and nothing else."""
    session = await create_session(repository)
    await repository.end(session.id)
    for name in ("heartbeat", "renew", "end"):
        once = await repository.idempotency_keys.claim(name, "request")
        with pytest.raises(SessionNotFound):
            await getattr(_scoped(repository, once), name)(session.id)
    assert {key.split(b":")[2] for key in await redis.keys("*")} == {b"claim", b"events"}


async def test_a_session_has_so_many_keys_a_day(repository: SessionRepository, redis: Any) -> None:
    """Beyond the limit a new key is refused without effect; repeats still get their outcome."""
    session = await create_session(repository)
    first = await repository.idempotency_keys.claim("first", "request")
    done = await _scoped(repository, first).heartbeat(session.id)
    used = own_key("used", session.id)
    assert await redis.get(used) == b"1"
    await redis.set(used, KEYS_PER_SESSION, keepttl=True)
    for n in range(2):
        once = await repository.idempotency_keys.claim(f"more {n}", "request")
        with pytest.raises(TooManyKeys):
            await _scoped(repository, once).heartbeat(session.id)
    assert (await repository.get(session.id)).renewal_count == 1
    again = await repository.idempotency_keys.claim("first", "request")
    assert await _scoped(repository, again).heartbeat(session.id) == done
    await repository.heartbeat(session.id)


def test_the_scripts_know_the_bound() -> None:
    """It stands in the budgets, and gets into the source of the script."""
    assert f">= {KEYS_PER_SESSION} " in recording_reply(HEARTBEAT).source.decode()


@pytest.mark.parametrize(
    ("kind", "value"),
    [("tails", None), ("used", None), ("outcome", None), ("used", "x"), ("outcome", "x")],
)
async def test_a_damaged_key_is_found_before_anything_is_done(
    repository: SessionRepository, redis: Any, kind: str, value: str | None
) -> None:
    """A damaged key fails the request before its effect; else a repeat would have it again."""
    session = await create_session(repository)
    once = await repository.idempotency_keys.claim("key", "request")
    of = f"{once.name}:0" if kind == "outcome" else session.id
    key = KEYS.one(kind, session.id[:2], of).names()[0]
    await (redis.rpush(key, "x") if value is None else redis.set(key, value))
    await redis.expire(key, 60)
    with pytest.raises(RecordUnreadable):
        await _scoped(repository, once).heartbeat(session.id)
    assert (await repository.get(session.id)).renewal_count == 0
