"""A Redis Cluster of three masters with a replica each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from chaos.network import Network
from chaos.stores.base import CHANGE_SECONDS, DOWN_AFTER_MS, ReplicatedStore
from chaos.stores.server import StoreServer, free_port
from tests.support.waiting import wait_until

_SLOTS = 16384


class ClusterGroup(ReplicatedStore):
    """A Redis Cluster of three masters with a replica each."""

    def __init__(self, servers: list[StoreServer]) -> None:
        self.servers = self.all_servers = servers
        hosts = ",".join(server.address for server in servers[:2])
        self.url = f"redis+cluster://{hosts}"

    async def replication(
        self, excluding: StoreServer | None = None
    ) -> list[tuple[StoreServer, list[StoreServer]]]:
        """Return each master that has slots with its replicas, as a server other than one sees it.

        ``excluding`` names that one, for example a master that is cut off from the others.
        """
        by_port = {server.announced_port: server for server in self.servers}
        found: dict[StoreServer, list[StoreServer]] = {}
        for slots in await self._command_any("CLUSTER", "SLOTS", excluding=excluding):
            master, *replicas = (by_port[int(server[1])] for server in slots[2:])
            found[master] = replicas
        return list(found.items())

    async def masters(self) -> list[StoreServer]:
        return [master for master, _ in await self.replication()]

    async def is_replaced(self, master: StoreServer) -> bool:
        return all(master is not other for other, _ in await self.replication(excluding=master))

    async def is_healthy(self) -> bool:
        """Return whether all servers see three masters with a replica each, and all slots."""
        try:
            for server in self.servers:
                facts = await server.command("CLUSTER", "INFO")
                facts = facts if isinstance(facts, dict) else _parse_info(facts)
                if facts["cluster_state"] != "ok" or facts["cluster_slots_ok"] != str(_SLOTS):
                    return False
                if (await server.info()).get("master_link_status", "up") != "up":
                    return False
            shards = await self.replication()
            return len(shards) == 3 and all(len(replicas) == 1 for _, replicas in shards)
        except (RedisError, OSError):
            return False

    async def migrate_by_key(
        self, shards: Sequence[str], source: StoreServer, target: StoreServer
    ) -> None:
        """Move the slots of shards key by key, as ``valkey-cli --cluster reshard`` does."""
        ids = {server: await server.command("CLUSTER", "MYID") for server in (source, target)}
        for shard in shards:
            slot = key_slot(shard.encode())
            set_slot = ("CLUSTER", "SETSLOT", slot)
            await target.command(*set_slot, "IMPORTING", ids[source])
            await source.command(*set_slot, "MIGRATING", ids[target])
            while keys := await source.command("CLUSTER", "GETKEYSINSLOT", slot, 3):
                await source.command(
                    "MIGRATE", "127.0.0.1", target.port, "", 0, 1000, "KEYS", *keys
                )
            for server in (target, source, *await self.masters()):
                await server.command(*set_slot, "NODE", ids[target])

    async def migrate_by_slot(
        self, shards: Sequence[str], source: StoreServer, target: StoreServer
    ) -> None:
        """Move the slots of shards with the command of Valkey 9, each slot in one step."""
        target_id = await target.command("CLUSTER", "MYID")
        slots = sorted(key_slot(shard.encode()) for shard in shards)
        ranges = [number for slot in slots for number in (slot, slot)]
        await source.command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", target_id)

        async def have_moved() -> bool:
            return {await self.owner(shard) for shard in shards} == {target}

        await wait_until(have_moved, CHANGE_SECONDS, every=0.02)

    async def owner(self, shard: str) -> StoreServer:
        """Return the master that owns a shard's slot."""
        slot = key_slot(shard.encode())
        for first, last, master, *_ in await self._command_any("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                port = int(master[1])
                return next(server for server in self.servers if server.announced_port == port)
        raise AssertionError(f"nobody has slot {slot}")

    async def _command_any(self, *words: Any, excluding: StoreServer | None = None) -> Any:
        """Run a command on the first server that answers it."""
        problem: Exception | None = None
        for server in self.servers:
            if server is excluding:
                continue
            try:
                return await server.command(*words)
            except (RedisError, OSError) as error:
                problem = error
        assert problem is not None
        raise problem


@asynccontextmanager
async def cluster_group(
    folder: Path, *settings: str, network: Network | None = None, password: str = ""
) -> AsyncIterator[ClusterGroup]:
    """Run a cluster; ``settings`` are lines of the servers' configuration files.

    The servers require the password if it is not empty.
    """
    bus_ports = [free_port() for _ in range(6)]
    servers = [
        StoreServer(
            folder / f"node-{n}",
            "cluster-enabled yes",
            f"cluster-port {bus_port}",
            f"cluster-node-timeout {DOWN_AFTER_MS}",
            "cluster-replica-validity-factor 0",
            "appendonly yes",
            "appendfsync everysec",
            "repl-diskless-sync-delay 0",
            "repl-ping-replica-period 1",
            *settings,
            password=password,
        )
        for n, bus_port in enumerate(bus_ports)
    ]
    if network is not None:
        for n, server in enumerate(servers):
            await server.join_network(network, "cluster-announce")
            bus_ports[n] = await network.add_proxy(server.source_ip, bus_ports[n])
            server.settings.append(f"cluster-announce-bus-port {bus_ports[n]}")
    try:
        await asyncio.gather(*(server.start() for server in servers))
        masters, replicas = servers[:3], servers[3:]
        for n, server in enumerate(servers):
            await server.command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for n, master in enumerate(masters):
            first, last = n * _SLOTS // 3, (n + 1) * _SLOTS // 3 - 1
            await master.command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for server, bus_port in zip(servers[1:], bus_ports[1:], strict=True):
            await servers[0].command(
                "CLUSTER", "MEET", "127.0.0.1", server.announced_port, bus_port
            )
        for master, replica in zip(masters, replicas, strict=True):
            master_id = await master.command("CLUSTER", "MYID")
            replicate = partial(_succeeds, replica, "CLUSTER", "REPLICATE", master_id)
            await wait_until(replicate, CHANGE_SECONDS)
        group = ClusterGroup(servers)
        await wait_until(group.is_healthy, CHANGE_SECONDS, every=0.05)
        yield group
    finally:
        for server in servers:
            await server.close()


async def _succeeds(server: StoreServer, *words: Any) -> bool:
    """Run a command; return False if the server refuses it, as it does before it met the other."""
    try:
        await server.command(*words)
    except RedisError:
        return False
    return True


def _parse_info(text: str) -> dict[str, str]:
    """Parse lines such as ``cluster_state:ok``."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
