"""The pipeline for a Sentinel group: the way to its master, as long as that is the master.

A server that was out of reach while another took its place believes to be the master until Sentinel
tells it, seconds later: it loses what it takes meanwhile, and knows nothing of what the other took.
Sentinel replaces a master after ``down-after-milliseconds`` of silence. So what a server says after
nearly as much of it is not believed, and the sentinels are asked time and again who the master is.
All of them are, for they learn of a new one one after the other: who knows of the latest is right.

Nor do the nodes of the service learn of it at once. One that went to the new master while another
still asks the former would make that one's answers false. So a new master is asked nothing until
the others have had time to hear of it.
"""

import asyncio
from contextlib import suppress
from operator import itemgetter
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError
from redis.utils import str_if_bytes

from session_service.store.client.calls import WriteConcern
from session_service.store.client.standalone import StandaloneExecutor

_PROBE_SECONDS = 0.2  # between probes of the master, and looks at who it is
_TRUST = 0.8  # of the time after which a silent master is replaced
_LEAST_SECONDS = 0.5  # of silence before a master is left
# Before a new master is asked. All nodes look every 0.2 s, or 0.25 later where a sentinel hangs.
_HANDOVER_SECONDS = 0.5


class NoMasterError(RedisError):
    """No sentinel tells of a master that is in order and can be asked."""


class SentinelPool(SentinelConnectionPool):
    """redis-py's way to the master, which believes the first sentinel that it can reach."""

    silence = 0.0  # seconds after which the master is replaced, as the sentinels are set
    _master: tuple[str, int] | None = None  # as it was named last
    _master_since = -_HANDOVER_SECONDS  # by the loop's clock, where it took another one's place

    async def get_master_address(self) -> tuple[str, int]:
        """Find the master to connect to; raises NoMasterError and what redis-py does."""
        address = await self.find_master()
        if asyncio.get_running_loop().time() < self._master_since + _HANDOVER_SECONDS:
            raise NoMasterError(
                f"{self.service_name} has a new master, which takes over in a moment"
            )
        return address

    async def find_master(self) -> tuple[str, int]:
        """Ask all sentinels who is the master; raises as ``get_master_address``."""
        manager, name = self.sentinel_manager, self.service_name
        answers = await asyncio.gather(
            *(sentinel.sentinel_masters() for sentinel in manager.sentinels),
            return_exceptions=True,
        )
        told = [
            (answer[name]["config-epoch"], sentinel, answer[name])
            for sentinel, answer in zip(manager.sentinels, answers, strict=True)
            if isinstance(answer, dict) and name in answer
        ]
        if not told:
            problem = next((f": {a}" for a in answers if isinstance(a, Exception)), "")
            raise NoMasterError(f"no sentinel tells of {name}{problem}")
        _, sentinel, state = max(told, key=itemgetter(0))
        # A sentinel that is replacing the master lists it until all follow the other one.
        named = await sentinel.sentinel_get_master_addr_by_name(name)
        address = (str_if_bytes(named[0]), named[1]) if named else None
        listed = (state["ip"], state["port"])
        if address is None or (address == listed and not manager.check_master_state(state, name)):
            raise NoMasterError(f"{name} has no master at the moment")
        self.silence = state["down-after-milliseconds"] / 1000
        if self._master not in (None, address):
            self._master_since = asyncio.get_running_loop().time()
        self._master = address
        return address


class SentinelExecutor(StandaloneExecutor):
    """All calls go to the master."""

    def __init__(
        self, client: Redis, timeout: float, acknowledgement: WriteConcern | None = None
    ) -> None:
        super().__init__(client, timeout, acknowledgement)
        self._pool = cast("SentinelPool", client.connection_pool)
        self._watching = [
            self._loop.create_task(each, name="store-sentinel")
            for each in (self._probe(), self._look())
        ]

    async def close(self) -> None:
        """Wait for what is under way, then close the connections."""
        for task in self._watching:
            task.cancel()
        await asyncio.wait(self._watching)
        await super().close()
        for sentinel in self._pool.sentinel_manager.sentinels:
            await sentinel.aclose()

    async def _probe(self) -> None:
        while True:
            if self._pool.silence:
                self._wire.probe(max(_LEAST_SECONDS, _TRUST * self._pool.silence))
            await asyncio.sleep(_PROBE_SECONDS)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            # A sentinel may be anything and reply with anything; connections report the problem.
            with suppress(Exception):
                self._wire.leave_unless(await self._pool.find_master())
