"""The pipeline for a Sentinel group: the way to its master, as long as that is the master.

A server that was out of reach while another took its place believes to be the master until Sentinel
tells it, seconds later, and loses then what it took meanwhile. So the sentinels are asked time and
again who it is.
"""

import asyncio
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError

from session_service.store.calls import Acknowledgement
from session_service.store.single import Single

_LOOK_SECONDS = 0.5  # between looks at who the master is
_STALL_SECONDS = 0.1  # and while it lets calls wait for longer than that, as before it is replaced


class Watched(Single):
    """All calls go to the master."""

    def __init__(
        self, client: Redis, timeout: float, acknowledgement: Acknowledgement | None = None
    ) -> None:
        super().__init__(client, timeout, acknowledgement)
        self._pool = cast("SentinelConnectionPool", client.connection_pool)
        self._watching = self._loop.create_task(self._watch(), name="store-sentinel")

    async def close(self) -> None:
        """Wait for what is under way, then close the connections."""
        self._watching.cancel()
        await asyncio.wait([self._watching])
        await super().close()
        for sentinel in self._pool.sentinel_manager.sentinels:
            await sentinel.aclose()

    async def _watch(self) -> None:
        pool = self._pool
        looked_at = 0.0
        while True:
            await asyncio.sleep(_STALL_SECONDS)
            now = self._loop.time()
            if now < looked_at + _LOOK_SECONDS and not self._wire.stalls(now - _STALL_SECONDS):
                continue
            looked_at = now
            try:
                address = await pool.sentinel_manager.discover_master(pool.service_name)
            except (RedisError, OSError):  # none that is in order, or no sentinel to tell
                continue
            self._wire.leave_unless(address)
