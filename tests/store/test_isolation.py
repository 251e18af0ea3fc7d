"""A shard that cannot be processed does not stop the others."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from session_service.composition import Store, compose, open_store
from session_service.domain.errors import RecordUnreadable
from session_service.domain.events import EventPolicy
from session_service.domain.ids import SHARDS
from session_service.domain.sessions import Session
from session_service.domain.timeouts import TimeoutConfig
from session_service.settings import Settings
from session_service.store.client.executor import ScriptExecutor
from session_service.store.events.outbox import Outbox
from session_service.store.quarantine import Quarantine
from session_service.store.records import pack_id
from session_service.store.scripts.deadlines import DUE, DueArguments, ShardSizes
from session_service.store.sessions.deadlines import Deadlines
from session_service.store.sessions.repository import SessionRepository
from session_service.store.shards import ShardGroups
from tests.support.factories import BRIEF, KEYS, LASTING, RETENTION_MS, create_session, shard_key
from tests.support.waiting import a_moment_later, wait_until

Groups = ShardGroups[DueArguments, list[ShardSizes]]


def only_sizes(shards: Sequence[str]) -> DueArguments:
    return DueArguments("".join(shards), RETENTION_MS, max_read=0)


KINDS = ("warn", "expire", "forget", "listing", "events", "trimmed")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quarantine(clock: Clock) -> Quarantine:
    return Quarantine(clock)


@pytest.fixture
async def store(redis: Redis, settings: Settings, quarantine: Quarantine) -> AsyncIterator[Store]:
    """A node with a quarantine whose clock the test sets."""
    async with open_store(settings, redis) as store:
        yield compose(store.executor, settings, quarantine)


async def poison(redis: Redis, shard: str, kind: str) -> str:
    """Give a key of a shard a type that no key of ours has; return its name."""
    key = shard_key(kind, shard)
    await redis.delete(key)
    await redis.hset(key, "not", "ours")
    await redis.expire(key, 3600)
    return key


async def in_two_shards(
    repository: SessionRepository, config: TimeoutConfig
) -> tuple[Session, Session]:
    """Create two sessions in different shards."""
    first = await create_session(repository, config)
    while True:
        other = await create_session(repository, config)
        if other.id[:2] != first.id[:2]:
            return first, other


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def names(groups: Groups) -> list[str]:
    """Run a script in all shards; return the shards that replied."""
    found = await groups.run(only_sizes, lambda shards, _: list(shards))
    return sorted(shard for shards in found for shard in shards)


class TestShardGroups:
    """Scripts run over groups of shards."""

    @pytest.fixture
    def groups(self, executor: ScriptExecutor, quarantine: Quarantine) -> Groups:
        return ShardGroups(executor, KEYS, DUE, quarantine, together=32)

    async def test_a_shard_that_fails_is_left_out_and_comes_back(
        self, groups: Groups, redis: Redis, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A failing shard is left out until its pause is over; its group replies at once."""
        caplog.set_level(logging.INFO)
        key = await poison(redis, "3f", "warn")
        others = [shard for shard in SHARDS if shard != "3f"]
        assert await names(groups) == others
        await redis.delete(key)
        assert await names(groups) == others
        clock.now += 1
        assert await names(groups) == list(SHARDS)
        assert lines(caplog) == [
            "shard 3f cannot be processed; the others go on",
            "shard 3f is processed again",
        ]

    async def test_a_shard_that_fails_again_does_not_disturb_its_group(
        self,
        groups: Groups,
        redis: Redis,
        executor: ScriptExecutor,
        clock: Clock,
        monkeypatch: Any,
    ) -> None:
        """A quarantined shard is tried in a call of its own: 8 calls for the others, and one."""
        await poison(redis, "3f", "warn")
        await names(groups)
        clock.now += 1
        asked: list[Any] = []
        submit = executor.submit

        def counted(*args: Any) -> Any:
            asked.append(args)
            return submit(*args)

        monkeypatch.setattr(executor, "submit", counted)
        await names(groups)
        assert len(asked) == 9

    async def test_a_reply_that_cannot_be_read_is_the_shard_s_failure(
        self, groups: Groups, quarantine: Quarantine, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A defect in one shard's reply is logged with its traceback and stops no other shard."""

        def read(shards: Sequence[str], _: Any) -> list[str]:
            if "3f" in shards:
                raise TypeError("a defect")
            return list(shards)

        found = await groups.run(only_sizes, read)
        assert sum(map(len, found)) == len(SHARDS) - 1
        assert list(quarantine.subjects()) == ["shard 3f"]
        (record,) = caplog.records
        assert record.exc_info


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_of_the_wrong_type_stops_no_other_shard(
    *,
    kind: str,
    repository: SessionRepository,
    deadlines: Deadlines,
    outbox: Outbox,
    store: Store,
    redis: Redis,
    quarantine: Quarantine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Expiries, counts, listings, trimming and consumers work in the other shards."""
    bad, good = await in_two_shards(repository, BRIEF)
    await a_moment_later(50)
    await poison(redis, bad.id[:2], kind)
    consumer = store.consumer
    consumed: list[bytes] = []

    async def good_has_expired() -> bool:
        await deadlines.sweep()
        batches = await consumer.next(0)
        await consumer.acknowledge(batches)
        consumed.extend(entry.event for batch in batches for entry in batch.entries)
        return any(event.startswith(b"expired " + pack_id(good.id)) for event in consumed)

    await wait_until(good_has_expired)
    await outbox.trim(EventPolicy(max_length=1000, retention_ms=1))
    page = await repository.list_page(limit=1000)
    assert page.counts.active in {0, 1}  # the bad shard may still be counted
    assert good.id not in {session.id for session in page.sessions}
    assert lines(caplog) in (
        [],
        [f"shard {bad.id[:2]} cannot be processed; the others go on"],
    )
    assert quarantine.total == len(lines(caplog))


async def test_listings_skip_a_shard_that_cannot_be_read(
    repository: SessionRepository, redis: Redis, quarantine: Quarantine
) -> None:
    """GET /sessions lists the sessions of all other shards."""
    bad, good = await in_two_shards(repository, LASTING)
    await poison(redis, bad.id[:2], "listing")
    pages = await asyncio.gather(*(repository.list_page(limit=1000) for _ in range(3)))
    assert {session.id for page in pages for session in page.sessions} >= {good.id}
    assert list(quarantine.subjects()) == [f"shard {bad.id[:2]}"]


async def test_a_user_s_listing_that_cannot_be_read_is_not_empty(
    repository: SessionRepository, redis: Redis
) -> None:
    """A user's listing in an unreadable shard is an error, not an empty page."""
    bad, _ = await in_two_shards(repository, LASTING)
    await poison(redis, bad.id[:2], "listing")
    with pytest.raises(RecordUnreadable):
        await repository.list_page(limit=10, user_id=bad.user_id)
