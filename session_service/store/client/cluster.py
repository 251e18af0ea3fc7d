"""The executor for a Redis Cluster: a connection to each master, which gets its shards' calls.

redis-py discovers the nodes. A call that a node refuses was not executed, so it can be sent again:
to the node that its slot has moved to (MOVED) or is moving to (ASK), or a moment later (TRYAGAIN).
"""

import asyncio

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot

from session_service.domain.errors import StoreUnavailable
from session_service.domain.ids import SHARDS
from session_service.metrics.measures import Measures
from session_service.store.client.calls import Call, WriteConcern
from session_service.store.client.connection import Connection, connect_to
from session_service.store.client.executor import ScriptExecutor, Signals
from session_service.store.client.protocol import Argument, KeySet, RawReply
from session_service.store.client.script import A, R, Script

_RETRY_SECONDS = 0.02  # until a call is sent again while its keys are being moved
_REFRESH_SECONDS = 0.25  # between discoveries of the nodes while one cannot be reached
_SLOTS = {shard: key_slot(shard.encode()) for shard in SHARDS}


class ClusterExecutor(ScriptExecutor):
    """Sends calls to the master that has the slot of their shard, as last discovered."""

    spans_shards = False

    def __init__(
        self,
        client: RedisCluster,
        timeout: float,
        write_concern: WriteConcern | None = None,
        measures: Measures | None = None,
    ) -> None:
        self._nodes = client.nodes_manager
        self._startup_nodes = dict(self._nodes.startup_nodes)
        self._timeout = timeout
        self._write_concern = write_concern
        self._loop = asyncio.get_running_loop()
        self._problem = ""  # why the nodes could not be discovered
        self.signals = Signals(measures)
        self._connections: dict[str, Connection] = {}  # by the name of the node
        self._of_shard: dict[str, Connection] = {}  # empty until the nodes were discovered
        self._unsent: list[Call] = []  # submitted before that
        self._refreshing: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def submit(self, script: Script[A, R], keys: KeySet, arguments: A) -> asyncio.Future[RawReply]:
        """Send a call to the master of its shard."""
        call = Call.of_script(script, keys, arguments, self._loop)
        self._send(call)
        return call.reply

    async def run_on_masters(self, *commands: tuple[Argument, ...]) -> dict[str, list[RawReply]]:
        """Run commands on each master; its name is its host and port, e.g. ``10.0.0.5:6379``."""
        if not self._of_shard:
            await asyncio.wait([self._refresh()], timeout=self._timeout)
        if not self._of_shard:
            raise StoreUnavailable(self._problem or "the cluster cannot be seen")
        masters = set(self._of_shard.values())
        names = [name for name, each in self._connections.items() if each in masters]
        replies = await asyncio.gather(
            *(self._connections[name].run_commands(commands) for name in names)
        )
        return dict(zip(names, replies, strict=True))

    async def close(self) -> None:
        """Wait for the calls in flight, then close the connections."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])
        self._fail_unsent("closed")
        connections = self._connections.values()
        await asyncio.gather(*self._closing, *(connection.close() for connection in connections))
        for nodes in ("nodes_cache", "startup_nodes"):  # the client closes only its own
            await self._nodes.aclose(nodes)

    def _send(self, call: Call) -> None:
        connection = self._of_shard.get(call.shard)
        if connection is None:
            self._unsent.append(call)
            self._refresh()
            return
        if connection.is_broken:  # its slots may have a new master
            self._refresh()
        connection.send(call)

    def _redirect(self, call: Call, error: str) -> bool:
        """Send a call to the node that the error names; return False if it is no redirection."""
        kind, *details = error.split()
        if kind == "CLUSTERDOWN":
            self._refresh()
        if kind not in ("MOVED", "ASK", "TRYAGAIN"):
            return False
        now = self._loop.time()
        if not call.redirected:
            call.redirected = True
            self._loop.call_later(
                self._timeout - (now - call.sent_at), call.fail, StoreUnavailable(error)
            )
        if call.reply.done():
            return True
        call.sent_at = now
        call.load = None  # another node may not know its script
        if kind == "TRYAGAIN":
            call.set_asking(False)
            self._loop.call_later(_RETRY_SECONDS, self._send, call)
            return True
        target = self._connection_to(details[1])
        call.set_asking(kind == "ASK")
        if kind == "ASK":
            target.send(call)
        elif self._of_shard.get(call.shard) is target:  # the nodes do not agree yet
            self._loop.call_later(_RETRY_SECONDS, self._send, call)
        else:
            self._of_shard[call.shard] = target
            target.send(call)
            self._refresh()
        return True

    def _connection_to(self, name: str) -> Connection:
        connection = self._connections.get(name)
        if connection is None:
            node = self._nodes.get_node(node_name=name)
            if node is None:
                host, _, port = name.rpartition(":")
                node = ClusterNode(host, int(port), **self._nodes.connection_kwargs)
            found = node  # for mypy, which does not narrow in a lambda
            connection = self._connections[name] = connect_to(
                lambda: found.connection_class(**found.connection_kwargs),
                self._timeout,
                self._write_concern,
                self._redirect,
                self.signals,
            )
        return connection

    def _refresh(self) -> "asyncio.Task[None]":
        """Discover which nodes have the slots, again until all of them can be reached."""
        if self._refreshing is None:
            self._refreshing = self._loop.create_task(
                self._refresh_until_reached(), name="store-cluster"
            )
        return self._refreshing

    async def _refresh_until_reached(self) -> None:
        while True:
            try:
                # redis-py asks only the nodes that it discovered last; all may have moved since.
                self._nodes.startup_nodes = {**self._startup_nodes, **self._nodes.startup_nodes}
                async with asyncio.timeout(self._timeout):
                    await self._nodes.initialize()
                self._adopt()
            except Exception as error:  # noqa: BLE001 - no error may end it
                reason = str(error) or type(error).__name__
                self._problem = f"the cluster cannot be seen: {reason}"
                self._fail_unsent(self._problem)
            if self._of_shard and not any(each.is_broken for each in self._of_shard.values()):
                break
            await asyncio.sleep(_REFRESH_SECONDS)
        self._refreshing = None

    def _adopt(self) -> None:
        """Use the nodes that redis-py has discovered."""
        names = {shard: self._nodes.get_node_from_slot(slot).name for shard, slot in _SLOTS.items()}
        self._of_shard = {shard: self._connection_to(name) for shard, name in names.items()}
        for name in self._connections.keys() - set(names.values()):
            closing = self._loop.create_task(self._connections.pop(name).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        unsent, self._unsent = self._unsent, []
        for call in unsent:
            self._send(call)

    def _fail_unsent(self, problem: str) -> None:
        while self._unsent:
            self._unsent.pop().fail(StoreUnavailable(problem))
