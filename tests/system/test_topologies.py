"""The executors of a Sentinel group and a cluster while servers fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from chaos.proxy import proxy_to
from chaos.stores.base import DOWN_AFTER_MS, single_server
from chaos.stores.cluster import cluster_group
from chaos.stores.sentinel import sentinel_group
from chaos.stores.server import StoreServer
from session_service.composition import open_store
from session_service.domain.errors import StoreUnavailable
from session_service.domain.sessions import Session
from session_service.store.client.factory import connect
from session_service.store.client.sentinel import NoMasterError
from session_service.store.sessions.repository import SessionRepository
from tests.support.factories import create_session, store_settings
from tests.support.waiting import wait_until

TIMEOUT = 1.0


@asynccontextmanager
async def sessions_of(
    url: str, acknowledgement: str = "none", within: float = TIMEOUT
) -> AsyncIterator[SessionRepository]:
    settings = store_settings(url, store_timeout=within, write_ack=acknowledgement)
    async with open_store(settings) as store:
        yield store.repository


async def try_create(repository: SessionRepository) -> Session | None:
    """Create a session; return None if the store is unavailable."""
    try:
        return await create_session(repository)
    except StoreUnavailable:
        return None


async def exists(repository: SessionRepository, session: Session) -> bool:
    """Return whether a session exists; False if the store is unavailable."""
    try:
        return (await repository.get(session.id)).id == session.id
    except StoreUnavailable:
        return False


async def is_unavailable(repository: SessionRepository) -> bool:
    """Return whether the store is unavailable."""
    return await try_create(repository) is None


class TestSentinel:
    """A master, two replicas and three sentinels."""

    async def test_one_sentinel_is_enough(self, tmp_path: Path) -> None:
        """One live sentinel is enough, even if a dead and a hanging one come first."""
        async with sentinel_group(tmp_path) as group:
            group.sentinels[0].kill()
            group.sentinels[1].suspend()
            async with sessions_of(group.url) as repository:
                await wait_until(lambda: try_create(repository), 3)

    async def test_who_is_no_master_any_more_is_left(self, tmp_path: Path) -> None:
        """A former master is left although it still believes that it is the master."""
        async with (
            sentinel_group(tmp_path) as group,
            sessions_of(group.url, within=30) as repository,
        ):
            await create_session(repository)
            former = await group.master()
            former.suspend()
            await wait_until(lambda: group.is_replaced(former), 20, every=0.05)
            for sentinel in group.sentinels:  # so that it learns of its replacement late
                await sentinel.command("SENTINEL", "DEBUG", "publish-period", 60_000)
            former.resume()

            async def is_left() -> bool:
                session = await try_create(repository)
                master = await group.master()
                return session is not None and bool(
                    [key async for key in master.redis.scan_iter(f"*}}:{session.id}")]
                )

            await wait_until(is_left, 3)
            assert (await former.info())["role"] == "master"

    async def test_a_master_that_was_silent_is_not_believed(self, tmp_path: Path) -> None:
        """A master that was silent is left, as a replica may have taken over."""
        async with (
            sentinel_group(tmp_path) as group,
            sessions_of(group.url, within=30) as repository,
        ):
            session = await create_session(repository)
            for sentinel in group.sentinels[1:]:  # the remaining one cannot replace the master
                sentinel.suspend()
            master = await group.sentinels[0].command(
                "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "sessions"
            )
            silent = next(node for node in group.servers if node.announced_port == int(master[1]))
            silent.suspend()
            asked = asyncio.create_task(repository.get(session.id))
            await asyncio.sleep(1.5 * DOWN_AFTER_MS / 1000)  # the silence
            assert not asked.done()
            silent.resume()
            with pytest.raises(StoreUnavailable):
                await asked
            await wait_until(partial(exists, repository, session))
            for sentinel in group.sentinels[1:]:
                sentinel.resume()

    async def test_a_new_master_is_left_alone_for_a_moment(self, tmp_path: Path) -> None:
        """A new master is used only after other nodes had time to leave the former one."""
        async with sentinel_group(tmp_path) as group:
            client = connect(group.url, TIMEOUT)
            pool = client.connection_pool
            former = await group.master()
            assert await pool.get_master_address() == ("127.0.0.1", former.port)
            former.kill()
            await wait_until(lambda: group.is_replaced(former), 20, every=0.05)
            with pytest.raises(NoMasterError, match="takes over in a moment"):
                await pool.get_master_address()

            async def is_found() -> bool:
                with suppress(NoMasterError):
                    return bool(await pool.get_master_address() != ("127.0.0.1", former.port))
                return False

            await wait_until(is_found)
            await client.aclose()
            for sentinel in pool.sentinel_manager.sentinels:
                await sentinel.aclose()


class TestCluster:
    """Three masters with a replica each."""

    async def test_one_that_is_away_is_looked_for(self, tmp_path: Path) -> None:
        """A cluster that is down is retried, before and after it was first reached."""
        async with cluster_group(tmp_path) as cluster:
            for node in cluster.servers:
                node.kill()
            async with sessions_of(cluster.url) as repository:
                for _ in range(2):
                    for _ in range(5):
                        assert await try_create(repository) is None
                        await asyncio.sleep(0.1)
                    await asyncio.gather(*(node.start() for node in cluster.servers))
                    session = await wait_until(lambda: try_create(repository))
                    await wait_until(partial(exists, repository, session))
                    for node in cluster.servers:
                        node.kill()
                    await wait_until(lambda: is_unavailable(repository))

    async def test_one_that_has_moved_is_found_by_its_url(self, tmp_path: Path) -> None:
        """A cluster whose nodes all moved is found through the host of the URL."""
        nodes = [StoreServer(tmp_path / f"node-{n}", "cluster-enabled yes") for n in range(2)]
        try:
            for node in nodes:
                await node.start()
                await node.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            async with (
                proxy_to(nodes[0].port) as host,
                sessions_of(f"redis+cluster://127.0.0.1:{host.port}") as repository,
            ):
                await wait_until(lambda: try_create(repository))
                nodes[0].kill()
                host.target = nodes[1].port
                await wait_until(lambda: try_create(repository))
        finally:
            for node in nodes:
                await node.close()


class TestCredentials:
    """Passwords of servers and sentinels."""

    async def test_sentinels_have_a_password_of_their_own(self, tmp_path: Path) -> None:
        """Servers and sentinels have different passwords, the next master too."""
        one, two = "one", "two"
        async with sentinel_group(tmp_path, password=one, sentinel_password=two) as group:
            start, hosts = "redis+sentinel://", group.url.removeprefix("redis+sentinel://")
            async with sessions_of(f"{start}:one@{hosts}?sentinel_password=two") as repository:
                session = await wait_until(lambda: try_create(repository))
                former = await group.master()
                former.kill()
                await wait_until(lambda: group.is_replaced(former), 20, every=0.05)
                await wait_until(partial(exists, repository, session))
            for url in (
                group.url,
                f"{start}:one@{hosts}",
                f"{start}{hosts}?sentinel_password=two",
                f"{start}:two@{hosts}?sentinel_password=one",
            ):
                async with sessions_of(url) as repository:
                    assert await try_create(repository) is None

    async def test_a_cluster_has_one_password(self, tmp_path: Path) -> None:
        """All nodes of a cluster require its password."""
        one = "one"
        async with cluster_group(tmp_path, password=one) as cluster:
            hosts = cluster.url.removeprefix("redis+cluster://")
            async with sessions_of(f"redis+cluster://:one@{hosts}") as repository:
                for _ in range(20):  # on all masters
                    session = await wait_until(lambda: try_create(repository))
                    await wait_until(partial(exists, repository, session))
            for url in (cluster.url, f"redis+cluster://:two@{hosts}"):
                async with sessions_of(url) as repository:
                    assert await try_create(repository) is None


class TestAcknowledgement:
    """Writes that wait for a replica."""

    async def test_no_write_waits_longer_for_a_replica_than_for_the_store(
        self, tmp_path: Path
    ) -> None:
        """Writes that queue behind others are refused within their own deadline."""
        async with (
            sentinel_group(tmp_path) as group,
            sessions_of(group.url, "replica") as repository,
        ):
            await wait_until(lambda: try_create(repository))
            master = await group.master()
            for node in group.servers:
                if node is not master:
                    node.suspend()
            loop = asyncio.get_running_loop()

            async def refused_after(delay: float) -> float:
                await asyncio.sleep(delay)
                started = loop.time()
                with pytest.raises(StoreUnavailable):
                    await create_session(repository)
                return loop.time() - started

            took = await asyncio.gather(*(refused_after(n * 0.05) for n in range(40)))
            assert max(took) < 2 * TIMEOUT

    async def test_reads_go_on_while_writes_wait(self, tmp_path: Path) -> None:
        """Reads are answered while writes wait for a replica."""
        async with (
            sentinel_group(tmp_path) as group,
            sessions_of(group.url, "replica", 4) as repository,
        ):
            session = await wait_until(lambda: try_create(repository))
            master = await group.master()
            for node in group.servers:
                if node is not master:
                    node.suspend()
            waiting = asyncio.create_task(try_create(repository))
            async with asyncio.timeout(2):
                for _ in range(20):
                    assert (await repository.get(session.id)).id == session.id
            assert not waiting.done()
            waiting.cancel()
            await asyncio.wait([waiting])

    async def test_a_server_that_cannot_acknowledge_is_no_defect(self, tmp_path: Path) -> None:
        """Writes that wait for a file which the server does not write are refused."""
        async with (
            single_server(tmp_path) as store,
            sessions_of(store.url, "fsync") as repository,
        ):
            await create_session(repository)
            await store.server.command("CONFIG", "SET", "appendonly", "no")
            with pytest.raises(StoreUnavailable):
                await create_session(repository)
