"""API keys in the store, and the copy of them that requests are checked against."""

import re
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from session_service.access.key_ring import ApiKeys
from session_service.composition import Store, open_store
from session_service.domain.api_keys import ApiKey, hash_of, new_key
from session_service.domain.credentials import Kind, Permission
from session_service.domain.errors import RecordUnreadable, StoreUnavailable
from session_service.store.api_keys import registry as registry_module
from session_service.store.api_keys.registry import ApiKeyRegistry
from session_service.store.quarantine import Quarantine
from tests.support.factories import HOUR_MS, new_uuid, shard_key, store_settings
from tests.support.servers import store_server, valkey_binary

REGISTRY = shard_key("api_keys", "00")
SCOPES = frozenset((Permission.SESSIONS_READ, Permission.MESSAGES_READ))
YEAR_MS = 365 * 24 * HOUR_MS
DAMAGES = [  # of a record: a pattern, and the text in its place
    (rb"^.*$", b""),
    (rb"^.*$", b"garbage"),
    (rb"}$", b""),
    (rb"^1", b"2"),
    (rb"^", b"\xff"),
    (rb" - ", b" 00 "),
    (rb'"name"', b'"limit":1,"name"'),
    (rb"billing", rb"\\u001b[2J"),
]


def unknown_key(key_id: str = "00000000") -> str:
    return new_key(key_id, lambda n: b"x" * n)


def now() -> int:
    return int(time.time() * 1000)


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def registry(store: Store) -> ApiKeyRegistry:
    return ApiKeyRegistry(store.executor, store.keys, store.quarantine)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def node(store: Store, clock: Clock) -> ApiKeys:
    """The keys as another node has them, whose clock the test sets."""
    return ApiKeys(ApiKeyRegistry(store.executor, store.keys, store.quarantine), clock)


async def add(
    registry: ApiKeyRegistry, name: str = "billing", **options: Any
) -> tuple[ApiKey, str]:
    added = await registry.add(name, SCOPES, **options)
    assert added is not None
    return added


async def rotate(registry: ApiKeyRegistry, key_id: str, overlap_ms: int) -> tuple[ApiKey, str]:
    rotated = await registry.rotate(key_id, overlap_ms)
    assert rotated is not None
    return rotated


class TestFind:
    """The credential of a key, by its text."""

    async def test_a_key_is_accepted_once_it_was_read(
        self, registry: ApiKeyRegistry, node: ApiKeys
    ) -> None:
        """A new key has the name, the scopes, the agents and the expiry it was made with."""
        agents = frozenset((new_uuid(), new_uuid()))
        key, text = await add(registry, agents=agents, expires_in_ms=HOUR_MS)
        await node.refresh()
        found = node.find(text, now())
        assert found is not None
        assert (found.kind, found.id, found.name) == (Kind.KEY, key.id, "billing")
        assert (found.permissions, found.agents, found.user) == (SCOPES, agents, None)
        assert found.expires == key.created_at + HOUR_MS
        assert text not in repr(found) + repr(key)

    async def test_other_keys_are_not_accepted(
        self, registry: ApiKeyRegistry, node: ApiKeys
    ) -> None:
        """A key of an id that does not exist, or with another secret, is unknown."""
        key, _ = await add(registry)
        await node.refresh()
        for text in (
            "",
            unknown_key(key.id),
            unknown_key(),
        ):
            assert node.find(text, now()) is None

    async def test_an_expired_key_is_not_accepted(
        self, registry: ApiKeyRegistry, node: ApiKeys
    ) -> None:
        """A key is valid until the millisecond before its expiry."""
        key, text = await add(registry, expires_in_ms=HOUR_MS)
        await node.refresh()
        end = key.created_at + HOUR_MS
        assert node.find(text, end - 1) is not None
        assert node.find(text, end) is None
        assert [node.is_revoked(key.id, at) for at in (end - 1, end)] == [False, True]

    async def test_a_revoked_key_is_not_accepted(
        self, registry: ApiKeyRegistry, node: ApiKeys
    ) -> None:
        """A node that reads the keys again refuses a revoked key, and no other."""
        (key, text), (other, other_text) = await add(registry), await add(registry)
        await node.refresh()
        assert node.find(text, now()) is not None
        assert await registry.revoke(key.id)
        await node.refresh()
        assert node.find(text, now()) is None
        assert node.find(other_text, now()) is not None
        assert [node.is_revoked(each, now()) for each in (key.id, other.id, "00000000")] == [
            True,
            False,
            True,
        ]

    async def test_after_a_rotation_both_secrets_are_accepted(
        self, registry: ApiKeyRegistry, node: ApiKeys
    ) -> None:
        """The secret before is accepted until the end of the overlap, its credential ends then."""
        key, before = await add(registry)
        rotated, after = await rotate(registry, key.id, HOUR_MS)
        await node.refresh()
        end = rotated.overlap_until
        assert end is not None
        assert abs(end - now() - HOUR_MS) < 60_000
        old, new = node.find(before, end - 1), node.find(after, end)
        assert old is not None
        assert new is not None
        assert (old.id, old.permissions, old.expires) == (key.id, SCOPES, end)
        assert (new.id, new.permissions, new.expires) == (key.id, SCOPES, None)
        assert node.find(before, end) is None
        assert not node.is_revoked(key.id, end)

    async def test_an_overlap_does_not_outlast_the_key(
        self, registry: ApiKeyRegistry, node: ApiKeys
    ) -> None:
        """Neither secret is accepted after the key has expired."""
        key, before = await add(registry, expires_in_ms=HOUR_MS)
        _, after = await rotate(registry, key.id, 2 * HOUR_MS)
        await node.refresh()
        end = key.created_at + HOUR_MS
        old = node.find(before, end - 1)
        assert old is not None
        assert old.expires == end
        assert node.find(after, end - 1) is not None
        assert [node.find(text, end) for text in (before, after)] == [None, None]

    async def test_a_rotation_ends_the_overlap_before_it(
        self, registry: ApiKeyRegistry, node: ApiKeys
    ) -> None:
        """At most two secrets are accepted; without an overlap, the new one alone."""
        key, first = await add(registry)
        _, second = await rotate(registry, key.id, HOUR_MS)
        _, third = await rotate(registry, key.id, HOUR_MS)
        await node.refresh()
        found = [node.find(text, now()) is not None for text in (first, second, third)]
        assert found == [False, True, True]
        _, fourth = await rotate(registry, key.id, 0)
        await node.refresh()
        found = [node.find(text, now()) is not None for text in (second, third, fourth)]
        assert found == [False, False, True]


class TestOutage:
    """The copy of the keys, while the store cannot be read."""

    async def test_the_last_copy_serves_for_a_minute(
        self, registry: ApiKeyRegistry, node: ApiKeys, clock: Clock
    ) -> None:
        """A minute after the last reading a key is neither valid nor invalid: that is a 503."""
        key, text = await add(registry)
        await node.refresh()
        clock.seconds += 60
        assert node.find(text, now()) is not None
        assert node.find("garbage", now()) is None
        clock.seconds += 0.1
        with pytest.raises(StoreUnavailable):
            node.find(text, now())
        with pytest.raises(StoreUnavailable):
            node.is_revoked(key.id, now())
        assert node.find("garbage", now()) is None
        await node.refresh()
        assert node.find(text, now()) is not None

    async def test_without_a_copy_no_key_is_decided_on(self, node: ApiKeys) -> None:
        """Before the keys were read, whether one is valid is unknown."""
        with pytest.raises(StoreUnavailable):
            node.find(unknown_key(), now())

    async def test_the_loss_of_all_keys_is_logged(
        self,
        registry: ApiKeyRegistry,
        node: ApiKeys,
        redis: Any,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """One line says how to create keys when the data set is lost, and no key is accepted."""
        _, text = await add(registry)
        await node.refresh()
        await redis.flushall()
        for _ in range(3):
            await node.refresh()
        assert node.find(text, now()) is None
        (line,) = caplog.messages
        assert "`session-service keys create`" in line


class TestDamage:
    """Records that cannot be read."""

    @pytest.mark.parametrize(("old", "new"), DAMAGES)
    async def test_a_damaged_record_disables_its_key_alone(
        self,
        *,
        registry: ApiKeyRegistry,
        store: Store,
        redis: Any,
        old: bytes,
        new: bytes,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A damaged key is logged once, and whether it is valid is unknown; the others work."""
        (key, text), (_, other_text) = await add(registry), await add(registry)
        record = await redis.hget(REGISTRY, key.id)
        damaged = re.sub(old, new, record, count=1)
        assert damaged != record
        await redis.hset(REGISTRY, key.id, damaged)
        quarantine = Quarantine(clock=lambda: 0.0)
        keys = ApiKeys(ApiKeyRegistry(store.executor, store.keys, quarantine))
        for _ in range(3):
            await keys.refresh()
        assert keys.find(other_text, now()) is not None
        for decide in (lambda: keys.find(text, now()), lambda: keys.is_revoked(key.id, now())):
            with pytest.raises(StoreUnavailable):
                decide()
        assert list(quarantine.subjects()) == [f"API key {key.id}"]
        (line,) = caplog.messages
        assert line.startswith(f"API key {key.id} cannot be processed")

    async def test_a_repaired_record_is_read_again(
        self, registry: ApiKeyRegistry, store: Store, redis: Any
    ) -> None:
        """A record that is repaired works again after the pause, without any other change."""
        key, text = await add(registry)
        record = await redis.hget(REGISTRY, key.id)
        seconds = Clock()
        quarantine = Quarantine(clock=seconds)
        keys = ApiKeys(ApiKeyRegistry(store.executor, store.keys, quarantine))
        await redis.hset(REGISTRY, key.id, b"garbage")
        await keys.refresh()
        await redis.hset(REGISTRY, key.id, record)
        seconds.seconds += 60
        await keys.refresh()
        assert keys.find(text, now()) is not None
        assert quarantine.subjects() == {}

    async def test_a_damaged_key_can_be_revoked(
        self, registry: ApiKeyRegistry, node: ApiKeys, redis: Any
    ) -> None:
        """Its record is deleted, so it is a key that is unknown."""
        key, text = await add(registry)
        await redis.hset(REGISTRY, key.id, b"garbage")
        assert await registry.rotate(key.id, 0) is None
        assert await registry.revoke(key.id)
        assert not await redis.hexists(REGISTRY, key.id)
        await node.refresh()
        assert node.find(text, now()) is None

    async def test_a_registry_of_another_type_is_no_registry(
        self, node: ApiKeys, redis: Any
    ) -> None:
        """If another program has written the key, reading fails and requests are not decided."""
        await redis.set(REGISTRY, "x", px=60_000)
        with pytest.raises(RecordUnreadable):
            await node.refresh()
        with pytest.raises(StoreUnavailable):
            node.find(unknown_key(), now())


class TestRegistry:
    """The list of keys."""

    async def test_it_is_read_again_only_after_a_change(self, registry: ApiKeyRegistry) -> None:
        """As long as nothing changes, the same list is returned."""
        key, _ = await add(registry)
        known = await registry.list_all()
        assert await registry.list_all() is known
        await registry.revoke(key.id)
        again = await registry.list_all()
        assert again is not known
        assert again[key.id].revoked_at is not None

    async def test_it_is_in_the_order_of_creation(self, registry: ApiKeyRegistry) -> None:
        """The oldest key is first."""
        for name in ("a", "b", "c"):
            await add(registry, name)
        created = [key.created_at for key in (await registry.list_all()).values()]
        assert created == sorted(created)

    async def test_a_key_is_revoked_for_good(self, registry: ApiKeyRegistry) -> None:
        """A revoked key cannot be rotated; revoking it again changes nothing."""
        key, _ = await add(registry)
        assert await registry.revoke(key.id)
        before = (await registry.list_all())[key.id]
        assert await registry.revoke(key.id)
        assert await registry.rotate(key.id, 0) is None
        assert (await registry.list_all())[key.id].revoked_at == before.revoked_at
        assert not await registry.revoke("00000000")

    async def test_a_full_store_lets_keys_be_revoked(self) -> None:
        """While the store refuses new data, a key that leaked can still be revoked."""
        with store_server(valkey_binary()) as url:
            async with open_store(store_settings(url)) as store:
                registry = ApiKeyRegistry(store.executor, store.keys, store.quarantine)
                (key, text), (_, other_text) = await add(registry), await add(registry)
                async with Redis.from_url(url) as client:
                    await client.config_set("maxmemory", 1)
                with pytest.raises(StoreUnavailable):
                    await add(registry)
                assert await registry.revoke(key.id)
                await store.api_keys.refresh()
                assert store.api_keys.find(text, now()) is None
                assert store.api_keys.find(other_text, now()) is not None
                assert (await registry.list_all())[key.id].revoked_at is not None

    async def test_an_expired_key_is_not_rotated(self, registry: ApiKeyRegistry) -> None:
        """Its clients would be refused all the same."""
        key, _ = await add(registry, expires_in_ms=0)
        assert await registry.rotate(key.id, 0) is None
        assert await registry.rotate("00000000", 0) is None

    async def test_keys_that_ended_make_room(
        self, registry: ApiKeyRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At the maximum, the key that ended first makes room; if all are valid, none does."""
        monkeypatch.setattr(registry_module, "MAX_KEYS", 3)
        (expired, _), (revoked, _) = await add(registry, expires_in_ms=1), await add(registry)
        valid, _ = await add(registry, expires_in_ms=HOUR_MS)
        while now() <= expired.created_at + 10:
            await registry.list_all()
        await registry.revoke(revoked.id)
        added, _ = await add(registry)
        assert set(await registry.list_all()) == {revoked.id, valid.id, added.id}
        another, _ = await add(registry)
        assert set(await registry.list_all()) == {valid.id, added.id, another.id}
        assert await registry.add("one more", SCOPES) is None

    async def test_reading_extends_the_ttl(self, registry: ApiKeyRegistry, redis: Any) -> None:
        """Keys are kept for a year after the last node has read them."""
        await add(registry)
        assert await redis.pttl(REGISTRY) > YEAR_MS - HOUR_MS
        await redis.pexpire(REGISTRY, HOUR_MS)
        await registry.list_all()
        assert await redis.pttl(REGISTRY) > YEAR_MS - HOUR_MS

    async def test_only_hashes_are_stored(self, registry: ApiKeyRegistry, redis: Any) -> None:
        """Neither the secret of a key nor that of its successor is in the store."""
        key, first = await add(registry)
        _, second = await rotate(registry, key.id, HOUR_MS)
        stored = b"".join((await redis.hgetall(REGISTRY)).values())
        for text in (first, second):
            assert text.split("_")[2].encode() not in stored
            assert hash_of(text).hex().encode() in stored
