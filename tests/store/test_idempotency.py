"""Keys that are claimed, with and without a lease."""

import asyncio
from typing import Any

import pytest

from session_service.domain.errors import IdempotencyConflict, IdempotencyMismatch
from session_service.store import idempotency
from session_service.store.idempotency import Claim
from session_service.store.repository import SessionRepository
from tests.store.test_repository import HELLO, new
from tests.waiting import wait_until


async def test_a_claim_is_answered_once(repository: SessionRepository) -> None:
    """While it is in flight another is a conflict; then it has the answer that came first."""
    claims = repository.claims
    claim = await claims.begin("key", "request")
    with pytest.raises(IdempotencyConflict):
        await claims.begin("key", "request")
    with pytest.raises(IdempotencyMismatch):
        await claims.begin("key", "another request")
    await claims.finish(claim, b"first")
    await claims.finish(claim, b"second")
    assert (await claims.begin("key", "request")).answer == b"first"
    with pytest.raises(IdempotencyMismatch):
        await claims.begin("key", "another request")


async def test_what_got_no_answer_begins_anew(repository: SessionRepository) -> None:
    """Where it failed, the next try begins at once."""
    claims = repository.claims
    await claims.finish(await claims.begin("key", "request"))
    assert (await claims.begin("key", "request")).answer is None


async def test_a_dead_node_blocks_a_key_for_a_while_only(
    repository: SessionRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that nobody gives back runs out, and the key still belongs to its request."""
    claims = repository.claims
    monkeypatch.setattr(idempotency, "_LEASE_MS", 200)
    first = await claims.begin("key", "request")

    async def begun() -> Claim | None:
        try:
            return await claims.begin("key", "request")
        except IdempotencyConflict:
            return None

    assert await begun() is None
    second = await wait_until(begun)
    assert (second.seed, second.answer) == (first.seed, None)
    with pytest.raises(IdempotencyMismatch):
        await claims.begin("key", "another request")


async def test_a_claim_without_an_effect_waits_for_nobody(repository: SessionRepository) -> None:
    """Where a node died between the two steps, another makes the second one."""
    session = await repository.create(new())
    for _ in range(3):
        once = await repository.claims.once("key", "request")
    sent = [
        await repository.through(await repository.claims.once("key", "request")).send(
            session.id, HELLO
        )
        for _ in range(2)
    ]
    again = await repository.through(once).send(session.id, HELLO)
    assert sent == [again, again]
    assert len((await repository.history(session.id, limit=10)).messages) == 1


async def test_all_that_is_remembered_is_in_one_slot_and_goes(
    repository: SessionRepository, redis: Any
) -> None:
    """What a script remembers has the tag of the script's keys, and a TTL beyond the claim's."""
    once = await repository.claims.once("key", "request")
    session = await repository.through(once).create(new())
    (claim,) = await redis.keys("*:claim:*")
    (outcome,) = await redis.keys("*:idem:*")
    assert f"{{{session.id[:2]}}}".encode() in outcome
    day = 86_400_000
    assert day - 60_000 < await redis.pttl(claim) <= day
    assert await redis.pttl(outcome) > day


async def test_ids_drawn_from_a_seed_are_as_random_as_others(repository: SessionRepository) -> None:
    """Different keys make different ids."""
    made = [
        await repository.through(await repository.claims.once(str(n), "request")).create(new())
        for n in range(20)
    ]
    assert len({session.id[2:] for session in made}) == 20
    await asyncio.gather(*(repository.get(session.id) for session in made))
