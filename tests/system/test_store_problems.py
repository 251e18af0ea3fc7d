"""Stores that evict, deny commands, are of another kind, or are not ready."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import ClientSession
from redis import Redis

from chaos.stores.server import StoreServer
from tests.support.api import SESSIONS, assert_error
from tests.support.factories import session_body
from tests.support.processes import Start, run
from tests.support.servers import store_server, valkey_binary
from tests.support.waiting import wait_until

ASKED_FOR = "hunter2"


async def health(client: ClientSession) -> dict[str, Any]:
    async with client.get(f"{SESSIONS}/health") as response:
        body: dict[str, Any] = await response.json()
        return body


async def create(client: ClientSession, size: int = 2) -> int:
    """Create a session; return the status."""
    body = session_body(metadata={"a": "x" * size})
    async with client.post(SESSIONS, json=body) as response:
        return int(response.status)


async def test_a_store_that_evicts_degrades_health(start: Start) -> None:
    """The log warns at the start; health is degraded within 5 s of the first eviction."""
    options = ("--maxmemory", "4mb", "--maxmemory-policy", "volatile-lru")
    with store_server(valkey_binary(), *options) as url:
        service = start(REDIS_URL=url)
        async with service.client() as client:
            assert (await health(client))["status"] == "healthy"
            assert any("maxmemory-policy is volatile-lru" in line["event"] for line in service.log)
            for _ in range(400):
                assert await create(client, 9_000) == 201

            async def is_degraded() -> bool:
                return bool((await health(client))["status"] == "degraded")

            await wait_until(is_degraded, 5)
            assert "evicted" in (await health(client))["reasons"][0]
    assert len([line for line in service.log if "the store evicts keys" in line["event"]]) == 1


async def test_a_store_that_denies_a_command_does_not_end_the_service(start: Start) -> None:
    """Requests get a 503, the log names the command, and they succeed once it is permitted."""
    with store_server(valkey_binary()) as url, Redis.from_url(url) as operator:
        rules = ("on", ">hunter2", "~*", "+@all", "-time", "-xadd", "-zrem")
        operator.execute_command("ACL", "SETUSER", "app", *rules)
        service = start(REDIS_URL=url.replace("unix://", "unix://app:hunter2@"))
        async with service.client() as client:
            assert await create(client) == 503
            assert (await health(client))["status"] == "unhealthy"
            expected = "the store's user is not permitted TIME, XADD, ZREM"
            assert any(expected in line["event"] for line in service.log)
            operator.execute_command("ACL", "SETUSER", "app", "+time", "+xadd", "+zrem")

            async def is_healthy() -> bool:
                return bool((await health(client))["status"] == "healthy")

            await wait_until(is_healthy)
            assert await create(client) == 201
    assert "Traceback" not in service.stderr


@asynccontextmanager
async def node(folder: Path, *settings: str, **options: Any) -> AsyncIterator[StoreServer]:
    node = StoreServer(folder / "node", *settings, **options)
    try:
        await node.start()
        yield node
    finally:
        await node.close()


def assert_one_line(folder: Path, url: str, *texts: str) -> None:
    """Check that the service does not start on this store, and gives the reason in one line."""
    done = run(folder, "serve", REDIS_URL=url)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for text in texts:
        assert text in line
    assert "hunter2" not in line


class TestAnotherKind:
    """The scheme of REDIS_URL does not fit the store."""

    async def test_one_server(self, tmp_path: Path) -> None:
        """A single server is no cluster and no sentinel."""
        async with node(tmp_path) as server:
            hint = f"{server.address} is a single server: use redis://host:port/db"
            assert_one_line(tmp_path, f"redis+cluster://{server.address}", hint)
            assert_one_line(tmp_path, f"redis+sentinel://127.0.0.1:1,{server.address}/main", hint)

    async def test_a_node_of_a_cluster(self, tmp_path: Path) -> None:
        """A cluster node is no single server; the password is not shown."""
        async with node(tmp_path, "cluster-enabled yes", password=ASKED_FOR) as server:
            for url in (
                f"redis://:hunter2@{server.address}/0",
                f"redis+sentinel://{server.address}/main?sentinel_password=hunter2",
            ):
                assert_one_line(tmp_path, url, "a node of a Redis Cluster: use redis+cluster://")

    async def test_a_sentinel(self, tmp_path: Path) -> None:
        """A sentinel is no store."""
        monitored = "sentinel monitor main 127.0.0.1 1 1"
        async with node(tmp_path, monitored, sentinel=True) as sentinel:
            for scheme in ("redis", "redis+cluster"):
                assert_one_line(
                    tmp_path,
                    f"{scheme}://{sentinel.address}",
                    "is a Sentinel: use redis+sentinel://host,host/service/db",
                )


async def test_a_database_that_the_store_does_not_have(tmp_path: Path) -> None:
    """A missing database stops the start, as it would never appear."""
    async with node(tmp_path) as server:
        done = run(tmp_path, "serve", REDIS_URL=f"redis://{server.address}/99")
    assert done.returncode == 1
    assert "REDIS_URL names a database that the store does not have" in done.stderr
    assert "Traceback" not in done.stderr


class TestAClusterThatIsNotThere:
    """Requests are answered 503 until the cluster is ready."""

    async def test_no_node_answers(self, start: Start) -> None:
        """Without any node, requests are answered 503."""
        service = start(REDIS_URL="redis+cluster://127.0.0.1:1,127.0.0.1:2")
        async with service.client() as client:
            async with client.get(f"{SESSIONS}/{uuid4()}") as response:
                await assert_error(response, 503, "STORE_UNAVAILABLE")
            assert (await health(client))["status"] == "unhealthy"
        assert "Traceback" not in service.stderr

    async def test_it_gets_ready_later(self, start: Start, tmp_path: Path) -> None:
        """A cluster that gets its slots and its password later is used then."""
        async with node(tmp_path, "cluster-enabled yes") as server:
            service = start(
                REDIS_URL=f"redis+cluster://:hunter2@{server.address}",
                SESSION_STORE_TIMEOUT_SECONDS="0.5",
            )
            async with service.client() as client:
                assert await create(client) == 503
                await server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                await server.command("CONFIG", "SET", "requirepass", "hunter2")

                async def is_served() -> bool:
                    return await create(client) == 201

                await wait_until(is_served)
                await wait_until(lambda: "cluster of 1 master" in service.stderr)
        assert "Traceback" not in service.stderr
        assert "hunter2" not in service.stderr
