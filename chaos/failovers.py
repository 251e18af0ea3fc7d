"""Faults of Sentinel groups and clusters, in which a replica takes over from its master.

Each is a function that causes the fault a number of times and returns the row of the report.
"""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import combinations
from pathlib import Path

from chaos.network import CLIENTS, network
from chaos.stores.base import ReplicatedStore
from chaos.stores.cluster import ClusterGroup, cluster_group
from chaos.stores.sentinel import sentinel_group
from chaos.trials import Row, Tally, arena, now
from session_service.domain.ids import SHARDS
from tests.support.waiting import wait_until

_GROUPS: dict[str, Callable[..., AbstractAsyncContextManager[ReplicatedStore]]] = {
    "Sentinel": sentinel_group,
    "Cluster": cluster_group,
}
_SAFE = ("min-replicas-to-write 1", "min-replicas-max-lag 2")

_FAILOVER_SECONDS = 20.0
_LINK_SECONDS = 2.5  # for which a link is cut: enough for a server to be declared dead
_STALE_MASTER_SECONDS = 1.0  # for which a former master still believes it is the master


def _row(tally: Tally, fault: str, write_ack: str = "none", *, may_lose: bool = False) -> Row:
    return tally.row(
        f"{fault} under load, `WRITE_ACK={write_ack}`",
        "only 2xx, 404, 410, 503; each within 3 s; recovery ≤ 10 s at p95; 0 cross-slot errors; "
        + ("loss reported" if may_lose else "0 lost"),
        recovery=10,
        p95=True,
        may_lose=may_lose,
    )


async def _wait_until_healthy(store: ReplicatedStore) -> None:
    await wait_until(store.is_healthy, _FAILOVER_SECONDS, every=0.05)


async def master_lost(repeats: int, kind: str, how: str, write_ack: str) -> Row:
    """Kill, suspend or isolate a master, and bring it back once a replica has taken over.

    Clients still reach an isolated master: the worst case for the writes that it accepts.
    """
    tally = Tally()
    safe = write_ack == "replica"
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
        net = await stack.enter_async_context(network())
        store: ReplicatedStore = await stack.enter_async_context(
            _GROUPS[kind](
                Path(folder),
                *(_SAFE if safe else ()),
                network=net if how == "isolated" else None,
            )
        )
        a = await stack.enter_async_context(arena(store, nodes=2, WRITE_ACK=write_ack))

        async def lose_master() -> float:
            since, master = now(), random.choice(await store.masters())
            match how:
                case "killed":
                    master.kill()
                case "suspended":
                    master.suspend()
                case _:
                    others = {server.source_ip for server in store.all_servers} - {master.source_ip}
                    net.isolate(master.source_ip, others)
            await wait_until(partial(store.is_replaced, master), _FAILOVER_SECONDS, every=0.05)
            match how:
                case "killed":
                    await store.restart(master)
                    return since
                case "suspended":
                    master.resume()
                case _:
                    if not (
                        kind == "Cluster" and safe
                    ):  # its only replica is the master now, so it refuses writes
                        await a.workload.wait_for_recovery(since)
            await asyncio.sleep(_STALE_MASTER_SECONDS)
            net.restore()
            return since

        for _ in range(repeats):
            await a.repeat(lose_master, tally, partial(_wait_until_healthy, store))
    return _row(tally, f"{kind}: master {how}", write_ack, may_lose=not safe)


async def links_cut(repeats: int, kind: str) -> Row:
    """Cut one link after the other for a while, also those from the clients."""
    tally = Tally()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
        net = await stack.enter_async_context(network())
        store: ReplicatedStore = await stack.enter_async_context(
            _GROUPS[kind](Path(folder), *_SAFE, network=net)
        )
        a = await stack.enter_async_context(arena(store, nodes=2, WRITE_ACK="replica"))
        links = list(
            combinations([CLIENTS, *(server.source_ip for server in store.all_servers)], 2)
        )
        random.shuffle(links)

        async def cut() -> float:
            net.cut(*links[tally.repeats % len(links)])
            await asyncio.sleep(_LINK_SECONDS)
            net.restore()
            return now()

        for _ in range(repeats):
            await a.repeat(cut, tally, partial(_wait_until_healthy, store))
    return _row(tally, f"{kind}: each of {len(links)} links cut in turn", "replica")


@asynccontextmanager
async def _cluster(write_ack: str) -> AsyncIterator[ClusterGroup]:
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        settings = _SAFE if write_ack == "replica" else ()
        async with cluster_group(Path(folder), *settings) as store:
            yield store


async def cluster_failover(repeats: int) -> Row:
    """Order a replica to take over from its master, as before maintenance."""
    tally = Tally()
    async with _cluster("none") as store, arena(store) as a:

        async def fail_over() -> float:
            since = now()
            master, (replica, *_) = random.choice(await store.replication())
            await replica.command("CLUSTER", "FAILOVER")
            await wait_until(partial(store.is_replaced, master), _FAILOVER_SECONDS, every=0.02)
            return since

        for _ in range(repeats):
            await a.repeat(fail_over, tally, partial(_wait_until_healthy, store))
    return _row(tally, "Cluster: manual failover")


async def cluster_slots_migrated(repeats: int, write_ack: str) -> Row:
    """Move slots to another master: key by key and, every second time, by Valkey's own command."""
    tally = Tally()
    async with (
        _cluster(write_ack) as store,
        arena(store, clients=24, WRITE_ACK=write_ack) as a,
    ):
        shards = random.sample(SHARDS, 24)
        by_key = True

        async def migrate() -> float:
            nonlocal by_key
            since, masters = now(), await store.masters()
            move = store.migrate_by_key if by_key else store.migrate_by_slot
            for source in masters:
                moving = [shard for shard in shards if await store.owner(shard) is source]
                target = masters[(masters.index(source) + 1) % len(masters)]
                for first in range(0, len(moving), 8):
                    await move(moving[first : first + 8], source, target)
            by_key = not by_key
            return since

        for _ in range(repeats):
            await a.repeat(migrate, tally, partial(_wait_until_healthy, store))
    return _row(tally, "Cluster: slots migrated", write_ack)
