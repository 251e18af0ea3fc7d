"""The executor for one server."""

import asyncio

from redis.asyncio import Redis

from session_service.metrics.measures import Measures
from session_service.store.client.calls import Call, WriteConcern
from session_service.store.client.connection import connect_to
from session_service.store.client.executor import ScriptExecutor, Signals
from session_service.store.client.protocol import Argument, KeySet, RawReply
from session_service.store.client.script import A, R, Script


class StandaloneExecutor(ScriptExecutor):
    """Sends all calls over one connection."""

    def __init__(
        self,
        client: Redis,
        timeout: float,
        write_concern: WriteConcern | None = None,
        measures: Measures | None = None,
    ) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self.signals = Signals(measures)
        self._connection = connect_to(
            client.connection_pool.make_connection, timeout, write_concern, signals=self.signals
        )

    def submit(self, script: Script[A, R], keys: KeySet, arguments: A) -> asyncio.Future[RawReply]:
        """Send a call."""
        call = Call.of_script(script, keys, arguments, self._loop)
        self._connection.send(call)
        return call.reply

    async def run_on_masters(self, *commands: tuple[Argument, ...]) -> dict[str, list[RawReply]]:
        """Run commands on the server."""
        return {"": await self._connection.run_commands(commands)}

    async def close(self) -> None:
        """Wait for the calls in flight, then close the connections."""
        await self._connection.close()
        await self._client.aclose()
