"""The faults, each a function that takes how often to cause it and gives the table's line."""

import asyncio
import random
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from session_service.domain.ids import SHARDS
from tests.system.faults.proxy import proxy_to
from tests.system.faults.stores import cluster_group, one_server, sentinel_group
from tests.system.faults.trials import Row, Tally, arena, now
from tests.waiting import wait_until

Scenario = Callable[[int], Coroutine[Any, Any, Row]]

_FAILOVER_SECONDS = 20.0
_ANSWERS = "only 2xx, 404, 410, 503; each within 3 s; recovery ≤ 10 s at p95"


async def node_killed(repeats: int) -> Row:
    """One of three nodes ends without a word, and another takes its place."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with (
            one_server(Path(folder)) as store,
            arena(store, nodes=3, nodes_die=True) as a,
        ):

            async def kill() -> float:
                a.nodes.kill(random.choice(a.nodes.nodes))
                await a.nodes.add()
                return now()

            for _ in range(repeats):
                await a.repeat(kill, tally)
    return tally.row(
        "`kill -9` of one of three nodes under load",
        "0 acknowledged writes lost, 0 orphans after one sweep",
    )


async def store_killed(repeats: int, fsync: str) -> Row:
    """The server ends without a word, and is started again on its file."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with one_server(Path(folder), fsync) as store, arena(store) as a:

            async def kill() -> float:
                store.node.kill()
                await asyncio.sleep(random.uniform(0, 0.3))
                await store.node.start()
                return now()

            for _ in range(repeats):
                await a.repeat(kill, tally)
    return tally.row(
        f"`kill -9` of the store under load, `appendfsync {fsync}`",
        "0 lost; recovery ≤ 2 s after it is back",
        recovery=2,
    )


async def sentinel_master_lost(repeats: int, how: str, write_ack: str) -> Row:
    """The master of a Sentinel group is killed, or stopped and goes on when it is none any more."""
    tally = Tally()
    safe = write_ack == "replica"
    settings = ("min-replicas-to-write 1", "min-replicas-max-lag 2") if safe else ()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with (
            sentinel_group(Path(folder), *settings) as store,
            arena(store, nodes=2, WRITE_ACK=write_ack) as a,
        ):

            async def lose() -> float:
                since, master = now(), await store.master()
                (master.kill if how == "killed" else master.stop)()

                async def is_replaced() -> bool:
                    return await store.master() is not master

                await wait_until(is_replaced, _FAILOVER_SECONDS, every=0.05)
                if how == "killed":
                    port = (await store.master()).port
                    rest = [s for s in master.settings if not s.startswith("replicaof")]
                    master.settings = [*rest, f"replicaof 127.0.0.1 {port}"]
                    await master.start()
                else:
                    master.go_on()
                    await asyncio.sleep(1)  # it takes itself for the master meanwhile
                return since

            async def mend() -> None:
                await wait_until(store.is_whole, _FAILOVER_SECONDS, every=0.05)

            for _ in range(repeats):
                await a.repeat(lose, tally, mend)
    return tally.row(
        f"Sentinel: master {how} under load, `WRITE_ACK={write_ack}`",
        f"{_ANSWERS}; {'0 lost' if safe else 'loss reported'}",
        recovery=10,
        p95=True,
        may_lose=not safe,
    )


async def cluster_master_killed(repeats: int, write_ack: str) -> Row:
    """A master of the cluster is killed, and comes back once its replica has taken over."""
    tally = Tally()
    safe = write_ack == "replica"
    settings = ("min-replicas-to-write 1", "min-replicas-max-lag 2") if safe else ()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with (
            cluster_group(Path(folder), *settings) as store,
            arena(store, WRITE_ACK=write_ack) as a,
        ):

            async def kill() -> float:
                since, master = now(), random.choice(await store.masters())
                master.kill()

                async def is_replaced() -> bool:
                    return master not in await store.masters()

                await wait_until(is_replaced, _FAILOVER_SECONDS, every=0.05)
                await master.start()
                return since

            async def mend() -> None:
                await wait_until(store.is_whole, _FAILOVER_SECONDS, every=0.05)

            for _ in range(repeats):
                await a.repeat(kill, tally, mend)
    return tally.row(
        f"Cluster: master killed under load, `WRITE_ACK={write_ack}`",
        f"{_ANSWERS}; {'0 lost' if safe else 'loss reported'}",
        recovery=10,
        p95=True,
        may_lose=not safe,
    )


async def cluster_failover(repeats: int) -> Row:
    """A replica is told to take over from its master, as before maintenance."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with cluster_group(Path(folder)) as store, arena(store) as a:

            async def fail_over() -> float:
                since = now()
                master, (replica, *_) = random.choice(await store.shards())
                await replica.do("CLUSTER", "FAILOVER")

                async def is_replaced() -> bool:
                    return replica in await store.masters()

                await wait_until(is_replaced, _FAILOVER_SECONDS, every=0.02)
                assert master is not replica
                return since

            async def mend() -> None:
                await wait_until(store.is_whole, _FAILOVER_SECONDS, every=0.05)

            for _ in range(repeats):
                await a.repeat(fail_over, tally, mend)
    return tally.row(
        "Cluster: manual failover under load",
        f"{_ANSWERS}; 0 lost",
        recovery=10,
        p95=True,
    )


async def cluster_slots_migrated(repeats: int) -> Row:
    """Slots move to another master, key by key and, each second time, by Valkey's own command."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with cluster_group(Path(folder)) as store, arena(store, clients=24) as a:
            shards = random.sample(SHARDS, 24)
            by_key = True

            async def migrate() -> float:
                nonlocal by_key
                since, masters = now(), await store.masters()
                for source in masters:
                    mine = [shard for shard in shards if await store.owner(shard) is source]
                    target = masters[(masters.index(source) + 1) % len(masters)]
                    for first in range(0, len(mine), 8):
                        if by_key:
                            await store.migrate(mine[first : first + 8], source, target)
                        else:
                            await store.migrate_at_once(mine[first : first + 8], source, target)
                by_key = not by_key
                return since

            async def mend() -> None:
                await wait_until(store.is_whole, _FAILOVER_SECONDS, every=0.05)

            for _ in range(repeats):
                await a.repeat(migrate, tally, mend)
    return tally.row(
        "Cluster: slots migrated under load",
        f"{_ANSWERS}; 0 lost, 0 cross-slot errors; indexes true afterwards",
        recovery=10,
        p95=True,
    )


_HOLD = {"delay": 1.0, "reset": 0.7, "half-close": 0.7, "blackhole": 2.6, "one byte": 1.0}


async def proxied(repeats: int, mode: str) -> Row:
    """The way to the store suffers for a while."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with (
            one_server(Path(folder)) as store,
            proxy_to(store.node.port) as proxy,
            arena(store, clients=12, url=f"redis://127.0.0.1:{proxy.port}/0") as a,
        ):

            async def suffer() -> float:
                proxy.mode = mode
                await asyncio.sleep(_HOLD[mode])
                proxy.mode = "pass"
                return now()

            for _ in range(repeats):
                await a.repeat(suffer, tally)
    return tally.row(
        f"way to the store: {mode}",
        "each answered within 3 s; 0 × 500, 0 false 404/410, 0 lost; healthy again ≤ 2 s",
        recovery=2,
    )


async def node_stopped(repeats: int) -> Row:
    """One of three nodes is replaced as in a rolling restart; its clients go on asking it."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with one_server(Path(folder)) as store, arena(store, nodes=3) as a:

            async def replace() -> float:
                await a.nodes.add()
                exit_code = await a.nodes.stop(a.nodes.nodes[0])
                if exit_code != 0:
                    tally.problems.append(f"exit code {exit_code}")
                return now()

            for _ in range(repeats):
                await a.repeat(replace, tally)
    return tally.row("SIGTERM under load", "0 accepted requests dropped, exit code 0")
