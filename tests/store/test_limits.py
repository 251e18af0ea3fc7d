"""The limits of users and of API keys, which hold across nodes."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from session_service.composition import Store
from session_service.domain.credentials import Credential
from session_service.domain.errors import RateLimited, SessionNotFound, StoreUnavailable
from session_service.domain.ids import new_id, shard_of_user
from session_service.domain.rates import RateLimit
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.protocol import KeySet, RawReply
from session_service.store.client.script import A, R, Script
from session_service.store.limits.failures import Failures
from session_service.store.limits.leases import KeyLimit
from session_service.store.limits.users import ChargingExecutor, UserLimit
from session_service.store.sessions.idempotency import ReplayingExecutor
from session_service.store.sessions.repository import SessionRepository
from session_service.store.sessions.scope import Scope
from tests.support.access import ANN, BOB, user
from tests.support.factories import HELLO, KEYS, create_session
from tests.support.waiting import wait_until

LIMIT = RateLimit(3, 3600)
KEY = "7Hq2"


class Counting(ScriptExecutor):
    """Counts the calls to a store; as that of a cluster, it refuses keys of several shards."""

    def __init__(self, executor: ScriptExecutor, *, is_cluster: bool = False) -> None:
        self.spans_shards = not is_cluster
        self.signals = executor.signals
        self.calls: list[str] = []
        self.is_down = False
        self._executor = executor

    def submit(self, script: Script[A, R], keys: KeySet, arguments: A) -> asyncio.Future[RawReply]:
        self.calls.append(repr(script))
        if not self.spans_shards:
            assert {name.split(b"{")[1][:2].decode() for name in keys.names()} == {keys.shard}
        if self.is_down:
            raise StoreUnavailable("down")
        return self._executor.submit(script, keys, arguments)

    async def run_on_masters(self, *commands: Any) -> dict[str, list[RawReply]]:
        return await self._executor.run_on_masters(*commands)

    async def close(self) -> None:
        pass


@pytest.fixture
def failures() -> Failures:
    return Failures()


@pytest.fixture
def limit(failures: Failures) -> UserLimit:
    return UserLimit(KEYS, LIMIT, failures)


@pytest.fixture
def counting(executor: ScriptExecutor) -> Counting:
    return Counting(executor)


def request_of(
    repository: SessionRepository, charge: ChargingExecutor, credential: Credential | None = None
) -> SessionRepository:
    return repository.scoped(Scope(charge, credential=credential or user(ANN)))


class TestUser:
    """A user's bucket, in the user's shard."""

    async def test_a_request_is_charged_by_its_own_script(
        self, repository: SessionRepository, limit: UserLimit, counting: Counting
    ) -> None:
        """Each request costs one, in the round trip that it makes anyway, also to read."""
        session = await create_session(repository, user_id=ANN)
        for left in (2, 1, 0):
            charge = limit.charging(counting, ANN)
            assert (await request_of(repository, charge).get(session.id)).id == session.id
            await charge.settle()
            assert charge.standing
            assert charge.standing.left == left
        assert counting.calls == ["Script('get_visible+charge')"] * 3

    async def test_a_refused_request_does_nothing(
        self, repository: SessionRepository, limit: UserLimit, executor: ScriptExecutor
    ) -> None:
        """Beyond the limit a request is refused, has no effect, and learns when to come back."""
        session = await create_session(repository, user_id=ANN)
        for _ in range(LIMIT.requests):
            await limit.charging(executor, ANN).settle()
        charge = limit.charging(executor, ANN)
        with pytest.raises(RateLimited) as refused:
            await request_of(repository, charge).end(session.id)
        assert 1195 <= refused.value.retry_after <= 1200
        assert charge.standing
        assert (charge.standing.left, charge.standing.is_granted) == (0, False)
        assert await repository.get(session.id)
        await limit.charging(executor, BOB).settle()

    async def test_one_more_is_there_after_its_time(
        self, executor: ScriptExecutor, failures: Failures
    ) -> None:
        """The bucket fills by the store's clock; the bucket of a user who is away is deleted."""
        limit = UserLimit(KEYS, RateLimit(2, 1), failures)
        began = time.monotonic()
        granted = 0
        while time.monotonic() < began + 1.2:
            try:
                await limit.charging(executor, ANN).settle()
            except RateLimited:
                await asyncio.sleep(0.02)
            else:
                granted += 1
        assert 4 <= granted <= 2 + 2 * (time.monotonic() - began)

    async def test_several_scripts_of_a_request_cost_one(
        self, repository: SessionRepository, limit: UserLimit, counting: Counting
    ) -> None:
        """The first script pays, the others wait for it, and those at the same time, too."""
        session = await create_session(repository, user_id=ANN)
        charge = limit.charging(counting, ANN)
        request = request_of(repository, charge)
        await asyncio.gather(*(request.heartbeat(session.id) for _ in range(5)))
        await request.renew(session.id)
        await charge.settle()
        assert charge.standing
        assert charge.standing.left == 2
        assert counting.calls == [
            "Script('heartbeat+charge')",
            *["Script('heartbeat')"] * 4,
            "Script('renew')",
        ]

    async def test_all_scripts_of_a_refused_request_are_refused(
        self, repository: SessionRepository, limit: UserLimit, executor: ScriptExecutor
    ) -> None:
        """If the first script is refused, none of the others has an effect."""
        for _ in range(LIMIT.requests):
            await limit.charging(executor, ANN).settle()
        charge = limit.charging(executor, ANN)
        sessions = [await create_session(repository, user_id=ANN) for _ in range(3)]
        request = request_of(repository, charge)
        results = await asyncio.gather(
            *(request.end(session.id) for session in sessions), return_exceptions=True
        )
        assert [type(result) for result in results] == [RateLimited] * 3
        with pytest.raises(RateLimited):
            await request.end(sessions[0].id)
        for session in sessions:
            assert await repository.get(session.id)

    async def test_a_session_that_does_not_exist_costs_the_same(
        self, repository: SessionRepository, limit: UserLimit, counting: Counting
    ) -> None:
        """A request that fails is charged as well, by the same one script."""
        charge = limit.charging(counting, ANN)
        with pytest.raises(SessionNotFound):
            await request_of(repository, charge).end(new_id(shard_of_user(ANN), lambda n: b"x" * n))
        await charge.settle()
        assert counting.calls == ["Script('end+charge')"]
        assert charge.standing
        assert charge.standing.left == 2

    async def test_in_a_cluster_the_bucket_is_in_the_users_shard(
        self, repository: SessionRepository, limit: UserLimit, executor: ScriptExecutor
    ) -> None:
        """An id of another shard costs one more round trip, whether its session exists or not."""
        assert shard_of_user(ANN) != shard_of_user(BOB)
        others = await create_session(repository, user_id=BOB)
        unknown = new_id(others.id[:2], lambda n: b"x" * n)
        for session_id in (others.id, unknown):
            counting = Counting(executor, is_cluster=True)
            charge = limit.charging(counting, ANN)
            with pytest.raises(SessionNotFound):
                await request_of(repository, charge).get(session_id)
            assert counting.calls == ["Script('limits/take')", "Script('get_visible')"]
        counting = Counting(executor, is_cluster=True)
        own = await create_session(repository, user_id=ANN)
        await request_of(repository, limit.charging(counting, ANN)).get(own.id)
        assert counting.calls == ["Script('get_visible+charge')"]

    async def test_a_replay_is_charged_and_has_the_same_effect(
        self, repository: SessionRepository, limit: UserLimit, executor: ScriptExecutor
    ) -> None:
        """A request that is sent again with its key costs one, and gets the first reply."""
        session = await create_session(repository, user_id=ANN)
        ids = set()
        for left in (2, 1, 0):
            charge = limit.charging(executor, ANN)
            once = ReplayingExecutor(charge, KEYS, b"seed" * 8)
            request = repository.scoped(Scope(once, once.random, user(ANN)))
            message, _, _ = await request.send(session.id, HELLO)
            ids.add(message.id)
            assert charge.standing
            assert charge.standing.left == left
        assert len(ids) == 1
        once = ReplayingExecutor(limit.charging(executor, ANN), KEYS, b"seed" * 8)
        with pytest.raises(RateLimited):
            await repository.scoped(Scope(once, once.random, user(ANN))).send(session.id, HELLO)
        assert len((await repository.history(session.id, limit=9)).messages) == 1

    @pytest.mark.parametrize("damage", ["type", "text"])
    async def test_a_damaged_bucket_is_full(
        self, store: Store, limit: UserLimit, redis: Redis, damage: str
    ) -> None:
        """A bucket that cannot be read fails no request, is counted, and limits again."""
        executor, repository, failures = store.executor, store.repository, limit.failures
        session = await create_session(repository, user_id=ANN)
        key = KEYS.bucket("user_bucket", ANN).names()[0]
        await (redis.set(key, "soon") if damage == "text" else redis.sadd(key, "x"))
        await redis.expire(key, 60)
        charge = limit.charging(executor, ANN)
        assert await request_of(repository, charge).get(session.id)
        assert charge.standing
        assert (charge.standing.left, failures.count) == (2, 1)
        await limit.charging(executor, ANN).settle()
        assert failures.count == 1

    async def test_without_the_store_the_limit_is_open(
        self, limit: UserLimit, counting: Counting, failures: Failures
    ) -> None:
        """A request whose charge fails is served, and counted with the reason."""
        reasons: list[str] = []
        failures.report = reasons.append
        counting.is_down = True
        charge = limit.charging(counting, ANN)
        await charge.settle()
        assert (charge.standing, failures.count) == (None, 1)
        assert "down" in reasons[0]

    async def test_a_full_bucket_is_no_key(
        self, limit: UserLimit, executor: ScriptExecutor, redis: Redis
    ) -> None:
        """A bucket is kept only until it is full again."""
        await limit.charging(executor, ANN).settle()
        assert 1_190_000 < await redis.pttl(own_key_of(ANN)) <= 1_200_001


def own_key_of(user_id: str) -> str:
    return KEYS.bucket("user_bucket", user_id).names()[0].decode()


class TestKey:
    """An API key's bucket, from which nodes lease."""

    limit = RateLimit(1000, 3600)

    @pytest.fixture
    async def nodes(
        self, counting: Counting, failures: Failures
    ) -> AsyncIterator[tuple[KeyLimit, ...]]:
        """Three nodes with one limit."""
        nodes = tuple(KeyLimit(counting, KEYS, self.limit, failures) for _ in range(3))
        yield nodes
        await asyncio.gather(*(node.close() for node in nodes))

    async def charge(self, node: KeyLimit) -> bool:
        standing = await node.charge(KEY)
        assert standing
        return standing.is_granted

    async def test_most_requests_cost_no_round_trip(
        self, nodes: tuple[KeyLimit, ...], counting: Counting
    ) -> None:
        """A node leases 1 % of the limit in advance: one call for five requests at least."""
        for _ in range(500):
            assert await self.charge(nodes[0])
            await asyncio.sleep(0)
        assert len(counting.calls) <= 102

    async def test_all_nodes_together_have_the_limit(self, nodes: tuple[KeyLimit, ...]) -> None:
        """Three nodes admit no more than the limit, and less by at most what two have leased."""
        granted = 0
        for n in range(1300):
            granted += await self.charge(nodes[n % 3])
        assert 980 <= granted <= 1000

    async def test_concurrent_requests_get_no_more(self, nodes: tuple[KeyLimit, ...]) -> None:
        """Requests that wait for a lease at the same time are all answered, and limited."""
        calls = (self.charge(nodes[n % 3]) for n in range(1500))
        assert 980 <= sum(await asyncio.gather(*calls)) <= 1000

    async def test_an_unused_lease_goes_back(
        self, nodes: tuple[KeyLimit, ...], counting: Counting, failures: Failures
    ) -> None:
        """Once nobody uses the key, or the node stops, others may use the whole rest."""
        for node in nodes[:2]:
            await self.charge(node)
        await asyncio.gather(*(node.close() for node in nodes[:2]))
        exact = KeyLimit(counting, KEYS, self.limit, failures)
        standing = await exact.charge(KEY)
        assert standing
        assert standing.left == 997
        await exact.close()

    async def test_a_lease_of_a_node_that_dies_is_lost(self, nodes: tuple[KeyLimit, ...]) -> None:
        """The other nodes admit less for it, by 1 % of the limit at most."""
        assert await self.charge(nodes[0])
        granted = 1
        for n in range(1300):
            granted += await self.charge(nodes[1 + n % 2])
        assert 970 <= granted <= 1000

    async def test_a_small_limit_is_exact(self, counting: Counting, failures: Failures) -> None:
        """With a limit under 100 nothing is leased in advance."""
        nodes = [KeyLimit(counting, KEYS, RateLimit(10, 3600), failures) for _ in range(3)]
        granted = [await self.charge(nodes[n % 3]) for n in range(15)]
        assert granted == [True] * 10 + [False] * 5
        assert len(counting.calls) == 12  # then each node knows that nothing is left

    async def test_without_the_store_the_limit_is_open(
        self, nodes: tuple[KeyLimit, ...], counting: Counting, failures: Failures
    ) -> None:
        """Requests are served and counted, and the first alone waits for the store."""
        counting.is_down = True
        for _ in range(3):
            assert await nodes[0].charge(KEY) is None
        assert (failures.count, len(counting.calls)) == (3, 1)
        counting.is_down = False

        async def is_limited() -> bool:
            return await nodes[0].charge(KEY) is not None

        await wait_until(is_limited)

    async def test_a_caller_that_goes_costs_nothing(self, nodes: tuple[KeyLimit, ...]) -> None:
        """A cancelled request takes nothing from the lease, and harms no other request."""
        waiting = [asyncio.create_task(nodes[0].charge(KEY)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[1], asyncio.CancelledError)
        last = results[2]
        assert last is not None
        assert not isinstance(last, BaseException)
        assert last.left == 998
