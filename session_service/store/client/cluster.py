"""The pipeline for a Redis Cluster: a wire to each master, each call to the one that has its shard.

redis-py discovers the nodes. A call that a node refuses was not executed, so it can be sent again:
to where its slot has moved (MOVED), where it is moving (ASK), or a moment later (TRYAGAIN).
"""

import asyncio
from typing import Any

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot

from session_service.domain.errors import StoreUnavailable
from session_service.domain.ids import SHARDS
from session_service.store.client.calls import Call, WriteConcern
from session_service.store.client.connection import Wire, wire_to
from session_service.store.client.executor import ScriptExecutor, Signals
from session_service.store.client.protocol import Argument, KeySet
from session_service.store.client.script import A, R, Script

_AGAIN_SECONDS = 0.02  # until a call is tried again whose keys are just being moved
_LOOK_SECONDS = 0.25  # between looks at a cluster of which something cannot be reached
_SLOTS = {shard: key_slot(shard.encode()) for shard in SHARDS}


class ClusterExecutor(ScriptExecutor):
    """Calls go to the master of their shard's slot, as far as is known."""

    spans_shards = False

    def __init__(
        self, client: RedisCluster, timeout: float, acknowledgement: WriteConcern | None = None
    ) -> None:
        self._nodes = client.nodes_manager
        self._of_url = dict(self._nodes.startup_nodes)
        self._timeout = timeout
        self._acknowledgement = acknowledgement
        self._loop = asyncio.get_running_loop()
        self._problem = ""  # why the cluster could not be seen
        self.signals = Signals()
        self._wires: dict[str, Wire] = {}  # by the node's name
        self._of_shard: dict[str, Wire] = {}  # empty until the cluster was seen
        self._unsent: list[Call] = []  # asked for before that
        self._looking: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def submit(self, script: Script[A, R], keys: KeySet, arguments: A) -> asyncio.Future[Any]:
        """Send a call to the master of its shard."""
        call = Call.of_script(script, keys, arguments, self._loop)
        self._send(call)
        return call.reply

    async def run_on_masters(self, *commands: tuple[Argument, ...]) -> dict[str, list[Any]]:
        """Give each master some commands; a master is named by its host and port."""
        if not self._of_shard:
            await asyncio.wait([self._look()], timeout=self._timeout)
        if not self._of_shard:
            raise StoreUnavailable(self._problem or "the cluster cannot be seen")
        masters = set(self._of_shard.values())
        names = [name for name, wire in self._wires.items() if wire in masters]
        replies = await asyncio.gather(*(self._wires[name].ask(commands) for name in names))
        return dict(zip(names, replies, strict=True))

    async def close(self) -> None:
        """Wait for what is under way, then close the connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        self._fail_unsent("closed")
        await asyncio.gather(*self._closing, *(wire.close() for wire in self._wires.values()))
        for nodes in ("nodes_cache", "startup_nodes"):  # the client would close none: it made none
            await self._nodes.aclose(nodes)

    def _send(self, call: Call) -> None:
        wire = self._of_shard.get(call.shard)
        if wire is None:
            self._unsent.append(call)
            self._look()
            return
        if wire.is_broken:  # its slots may have a new master
            self._look()
        wire.send(call)

    def _redirect(self, call: Call, error: str) -> bool:
        """Send a call to where the node that refused it says; true if that could be done."""
        kind, *where = error.split()
        if kind == "CLUSTERDOWN":
            self._look()
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
            call.ask_first(False)
            self._loop.call_later(_AGAIN_SECONDS, self._send, call)
            return True
        target = self._wire_to(where[1])
        call.ask_first(kind == "ASK")
        if kind == "ASK":
            target.send(call)
        elif self._of_shard.get(call.shard) is target:  # the nodes do not agree yet
            self._loop.call_later(_AGAIN_SECONDS, self._send, call)
        else:
            self._of_shard[call.shard] = target
            target.send(call)
            self._look()
        return True

    def _wire_to(self, name: str) -> Wire:
        wire = self._wires.get(name)
        if wire is None:
            node = self._nodes.get_node(node_name=name)
            if node is None:
                host, _, port = name.rpartition(":")
                node = ClusterNode(host, int(port), **self._nodes.connection_kwargs)
            found = node
            wire = self._wires[name] = wire_to(
                lambda: found.connection_class(**found.connection_kwargs),
                self._timeout,
                self._acknowledgement,
                self._redirect,
                self.signals,
            )
        return wire

    def _look(self) -> "asyncio.Task[None]":
        """Find out which nodes have the slots, until all of them can be reached."""
        if self._looking is None:
            self._looking = self._loop.create_task(self._keep_looking(), name="store-cluster")
        return self._looking

    async def _keep_looking(self) -> None:
        while True:
            try:
                # redis-py asks only the nodes it saw last, which may all have moved since.
                self._nodes.startup_nodes = {**self._of_url, **self._nodes.startup_nodes}
                async with asyncio.timeout(self._timeout):
                    await self._nodes.initialize()
                self._adopt()
            except Exception as error:  # noqa: BLE001 - as in wire.py; nothing is to end the looks
                reason = str(error) or type(error).__name__
                self._problem = f"the cluster cannot be seen: {reason}"
                self._fail_unsent(self._problem)
            if self._of_shard and not any(wire.is_broken for wire in self._of_shard.values()):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        self._looking = None

    def _adopt(self) -> None:
        """Take over what redis-py has found."""
        names = {shard: self._nodes.get_node_from_slot(slot).name for shard, slot in _SLOTS.items()}
        self._of_shard = {shard: self._wire_to(name) for shard, name in names.items()}
        for name in self._wires.keys() - set(names.values()):
            closing = self._loop.create_task(self._wires.pop(name).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        unsent, self._unsent = self._unsent, []
        for call in unsent:
            self._send(call)

    def _fail_unsent(self, problem: str) -> None:
        while self._unsent:
            self._unsent.pop().fail(StoreUnavailable(problem))
