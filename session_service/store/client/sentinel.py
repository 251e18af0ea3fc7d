"""The executor for a Sentinel group: connects to its master, as long as that is the master.

A master that was out of reach while Sentinel replaced it still takes itself for the master, for
some seconds. Writes to it are lost, and it does not know those to the new one. Sentinel replaces a
master after ``down-after-milliseconds`` of silence. So replies after a silence of nearly that long
are not trusted, and all sentinels are asked again and again for the master. They learn of a new one
one after the other; the one with the highest configuration epoch is right.

The nodes of the service do not learn of a new master at the same time either. If one used it while
another still used the old one, the replies that the latter gets would be wrong. So a new master is
not used until all nodes have had time to find it.
"""

import asyncio
from contextlib import suppress
from operator import itemgetter
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError
from redis.utils import str_if_bytes

from session_service.metrics.measures import Measures
from session_service.store.client.calls import WriteConcern
from session_service.store.client.standalone import StandaloneExecutor

_CHECK_SECONDS = 0.2  # between checks whether the master is alive, and which server it is
_TRUSTED_SHARE = 0.8  # of the silence after which a master is replaced
_MIN_SILENCE_SECONDS = 0.5  # after which a connection is dropped
# Before a new master is used. All nodes look every 0.2 s, or 0.25 s later if a sentinel hangs.
_HANDOVER_SECONDS = 0.5


class NoMasterError(RedisError):
    """No sentinel names a master that is in order and may be used."""


class SentinelPool(SentinelConnectionPool):
    """A pool that asks all sentinels for the master.

    redis-py's own believes the first sentinel that it can reach.
    """

    silence = 0.0  # seconds after which the sentinels replace the master
    _master: tuple[str, int] | None = None  # as it was last named
    _master_since = -_HANDOVER_SECONDS  # by the loop's clock, if it replaced another

    async def get_master_address(self) -> tuple[str, int]:
        """Return the master to connect to; raises NoMasterError, and errors of redis-py."""
        address = await self.find_master()
        if asyncio.get_running_loop().time() < self._master_since + _HANDOVER_SECONDS:
            raise NoMasterError(
                f"{self.service_name} has a new master, which takes over in a moment"
            )
        return address

    async def find_master(self) -> tuple[str, int]:
        """Ask all sentinels for the master; raises as ``get_master_address``."""
        manager, name = self.sentinel_manager, self.service_name
        answers = await asyncio.gather(
            *(sentinel.sentinel_masters() for sentinel in manager.sentinels),
            return_exceptions=True,
        )
        states = [
            (answer[name]["config-epoch"], sentinel, answer[name])
            for sentinel, answer in zip(manager.sentinels, answers, strict=True)
            if isinstance(answer, dict) and name in answer
        ]
        if not states:
            problem = next((f": {a}" for a in answers if isinstance(a, Exception)), "")
            raise NoMasterError(f"no sentinel knows {name}{problem}")
        _, sentinel, state = max(states, key=itemgetter(0))
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
    """Sends all calls to the master."""

    def __init__(
        self,
        client: Redis,
        timeout: float,
        write_concern: WriteConcern | None = None,
        measures: Measures | None = None,
    ) -> None:
        super().__init__(client, timeout, write_concern, measures)
        self._pool = cast("SentinelPool", client.connection_pool)
        self._watching = [
            self._loop.create_task(each, name="store-sentinel")
            for each in (self._check_alive(), self._follow_master())
        ]

    async def close(self) -> None:
        """Wait for the calls in flight, then close the connections."""
        for task in self._watching:
            task.cancel()
        await asyncio.wait(self._watching)
        await super().close()
        for sentinel in self._pool.sentinel_manager.sentinels:
            await sentinel.aclose()

    async def _check_alive(self) -> None:
        while True:
            if self._pool.silence:
                trusted = _TRUSTED_SHARE * self._pool.silence
                self._connection.check_alive(max(_MIN_SILENCE_SECONDS, trusted))
            await asyncio.sleep(_CHECK_SECONDS)

    async def _follow_master(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            # A sentinel may be anything and reply with anything; connections report the problem.
            with suppress(Exception):
                self._connection.drop_unless(await self._pool.find_master())
