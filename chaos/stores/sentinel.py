"""A Sentinel group: a master, two replicas and three sentinels."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.exceptions import RedisError

from chaos.network import Network
from chaos.stores.base import CHANGE_SECONDS, DOWN_AFTER_MS, ReplicatedStore
from chaos.stores.server import StoreServer
from tests.support.clocks import SettableClock
from tests.support.waiting import wait_until


class SentinelGroup(ReplicatedStore):
    """A master, two replicas and three sentinels."""

    def __init__(self, servers: list[StoreServer], sentinels: list[StoreServer]) -> None:
        self.servers = servers
        self.sentinels = sentinels
        self.all_servers = [*servers, *sentinels]
        hosts = ",".join(sentinel.address for sentinel in sentinels)
        self.url = f"redis+sentinel://{hosts}/sessions/0"

    async def master(self) -> StoreServer:
        """Return the master that most of the sentinels name."""
        named = [
            await sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "sessions")
            for sentinel in self.sentinels
        ]
        ports = [int(address[1]) for address in named]
        port = max(ports, key=ports.count)
        return next(server for server in self.servers if server.announced_port == port)

    async def masters(self) -> list[StoreServer]:
        return [await self.master()]

    async def is_replaced(self, master: StoreServer) -> bool:
        return await self.master() is not master

    async def restart(self, server: StoreServer) -> None:
        """Start a former master as a replica, lest there be two until Sentinel notices it."""
        port = (await self.master()).announced_port
        rest = [line for line in server.settings if not line.startswith("replicaof")]
        server.settings = [*rest, f"replicaof 127.0.0.1 {port}"]
        await server.start()

    async def is_healthy(self) -> bool:
        """Return whether all sentinels see the same master, and it has two replicas in step."""
        try:
            for sentinel in self.sentinels:
                (state,) = await sentinel.command("SENTINEL", "MASTERS")
                facts = (
                    state
                    if isinstance(state, dict)
                    else dict(zip(state[::2], state[1::2], strict=True))
                )
                if facts["flags"] != "master" or int(facts["num-slaves"]) != 2:
                    return False
            master = await self.master()
            facts = await master.info()
            replicas = [facts.get("slave0"), facts.get("slave1")]
            links = [
                (await server.info())["master_link_status"]
                for server in self.servers
                if server is not master
            ]
            return (
                facts["role"] == "master"
                and all(
                    replica and replica["state"] == "online" and replica["lag"] <= 1
                    for replica in replicas
                )
                and links == ["up", "up"]
            )
        except (RedisError, OSError, KeyError):  # a master has no master_link_status
            return False


@asynccontextmanager
async def sentinel_group(
    folder: Path,
    *settings: str,
    network: Network | None = None,
    password: str = "",
    sentinel_password: str = "",
    replica_clock: SettableClock | None = None,
) -> AsyncIterator[SentinelGroup]:
    """Run a Sentinel group; ``settings`` are lines of the servers' configuration files.

    Servers and sentinels require their password if it is not empty. ``replica_clock`` replaces the
    clock of the replicas.
    """
    common = (
        "appendonly yes",
        "appendfsync everysec",
        "repl-diskless-sync-delay 0",
        "repl-ping-replica-period 1",
        *settings,
    )
    servers = [StoreServer(folder / f"server-{n}", *common, password=password) for n in range(3)]
    for replica in servers[1:]:
        replica.environment = replica_clock.environment if replica_clock is not None else {}
    if network is not None:
        for server in servers:
            await server.join_network(network, "replica-announce")
    master = servers[0].announced_port
    logins = [f"sentinel auth-pass sessions {password}"] if password else []
    if sentinel_password:
        logins.append(f"sentinel sentinel-pass {sentinel_password}")
    sentinels = [
        StoreServer(
            folder / f"sentinel-{n}",
            f"sentinel monitor sessions 127.0.0.1 {master} 2",
            f"sentinel down-after-milliseconds sessions {DOWN_AFTER_MS}",
            "sentinel failover-timeout sessions 1500",
            "sentinel parallel-syncs sessions 2",
            *logins,
            sentinel=True,
            password=sentinel_password,
        )
        for n in range(3)
    ]
    if network is not None:
        for sentinel in sentinels:
            await sentinel.join_network(network, "sentinel announce")
    try:
        await servers[0].start()
        for replica in servers[1:]:
            await replica.start()
            await replica.command("REPLICAOF", "127.0.0.1", master)
        for sentinel in sentinels:
            await sentinel.start()
            # A busy machine makes sentinels distrust their clocks (tilt), for 30 s each time.
            await sentinel.command(
                "SENTINEL", "DEBUG", "info-period", 500, "publish-period", 500, "tilt-period", 1000
            )
        group = SentinelGroup(servers, sentinels)
        await wait_until(group.is_healthy, CHANGE_SECONDS, every=0.05)
        yield group
    finally:
        for server in (*sentinels, *servers):
            await server.close()
