"""The pipeline for one server."""

import asyncio
from typing import Any

from redis.asyncio import Redis

from session_service.store.client.calls import Call, WriteConcern
from session_service.store.client.connection import wire_to
from session_service.store.client.executor import ScriptExecutor, Signals
from session_service.store.client.protocol import Argument, KeySet
from session_service.store.client.script import A, R, Script


class StandaloneExecutor(ScriptExecutor):
    """All calls go one way."""

    def __init__(
        self, client: Redis, timeout: float, acknowledgement: WriteConcern | None = None
    ) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self.signals = Signals()
        self._wire = wire_to(
            client.connection_pool.make_connection,
            timeout,
            acknowledgement,
            signals=self.signals,
        )

    def submit(self, script: Script[A, R], keys: KeySet, arguments: A) -> asyncio.Future[Any]:
        """Send a call."""
        call = Call.of_script(script, keys, arguments, self._loop)
        self._wire.send(call)
        return call.reply

    async def run_on_masters(self, *commands: tuple[Argument, ...]) -> dict[str, list[Any]]:
        """Give the server some commands."""
        return {"": await self._wire.ask(commands)}

    async def close(self) -> None:
        """Wait for what is under way, then close the connections."""
        await self._wire.close()
        await self._client.aclose()
