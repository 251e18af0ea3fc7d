"""Streams while the store's clock is set back and forth at random, and clients come and go."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout

from chaos.fleet import fleet
from chaos.stores.base import single_server
from tests.support.api import SESSIONS
from tests.support.clocks import SettableClock, library
from tests.support.factories import new_uuid
from tests.support.sse import EVENTS, follow
from tests.support.tools import skip_without
from tests.support.waiting import wait_until

_STEPS = (-0.05, -0.3, -1, -2, -3, -10, -25, 1, 5, 30)  # seconds
_RESET_WITHIN = 8.0  # seconds from a missing event to its reset


class Client:
    """Follows all events, and reconnects to another node now and then if it is restless."""

    def __init__(self, clients: list[ClientSession], stays_seconds: float) -> None:
        self._clients = clients
        self._stays_seconds = stays_seconds
        self.began_at = 0.0
        self.last_id = ""
        self.is_following = False
        self.received: list[str] = []
        self.resets: list[float] = []

    async def run(self) -> None:
        while True:
            source = await follow(random.choice(self._clients), EVENTS, self.last_id)
            self.is_following = True
            stays = random.random() * self._stays_seconds or None
            with suppress(TimeoutError):
                async with asyncio.timeout(stays):
                    while event := await source.next(3600):
                        if event.name == "reset":
                            self.resets.append(time.monotonic())
                        else:
                            self.received.append(event.subject)
            self.last_id = source.last_id or self.last_id
            source.response.close()
            self.began_at = self.began_at or time.monotonic()

    def missing_from(self, made: dict[str, tuple[float, float]]) -> list[str]:
        """Return the sessions whose events are missing without a reset."""
        missing = made.keys() - set(self.received)
        return [
            session
            for session, (begun, done) in made.items()
            if session in missing
            and begun > self.began_at
            and not any(begun <= reset <= done + _RESET_WITHIN for reset in self.resets)
        ]


@asynccontextmanager
async def running(*tasks: asyncio.Task[None]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.proof
async def test_nothing_is_missing_without_a_reset(tmp_path: Path) -> None:
    """Open streams get every event once; resumed ones get every event or a reset."""
    if library() is None:
        skip_without("libfaketime")
    clock = SettableClock(tmp_path)
    made: dict[str, tuple[float, float]] = {}
    async with (
        single_server(tmp_path / "store", clock=clock) as store,
        fleet(tmp_path / "nodes", store.url, 2) as nodes,
        ClientSession(f"http://127.0.0.1:{nodes.ports[0]}", timeout=ClientTimeout()) as first,
        ClientSession(f"http://127.0.0.1:{nodes.ports[1]}", timeout=ClientTimeout()) as second,
    ):
        users = [new_uuid() for _ in range(40)]

        async def write() -> None:
            while True:
                begun = time.monotonic()
                body = {"agentId": new_uuid(), "userId": random.choice(users)}
                async with random.choice((first, second)).post(SESSIONS, json=body) as response:
                    made[(await response.json())["sessionId"]] = (begun, time.monotonic())
                await asyncio.sleep(random.random() / 15)

        steady = [Client([client], 0) for client in (first, second)]
        restless = [Client([first, second], seconds) for seconds in (0.5, 0.5, 2, 5)]
        following = [asyncio.create_task(client.run()) for client in (*steady, *restless)]
        async with running(*following):
            await wait_until(
                lambda: all(client.is_following for client in (*steady, *restless)),
                description="all clients follow the events",
            )
            for client in steady:
                client.began_at = time.monotonic()
            offset = 0.0
            async with running(*(asyncio.create_task(write()) for _ in range(4))):
                for _ in range(15):
                    await asyncio.sleep(random.random() * 3)
                    offset += random.choice(_STEPS)
                    clock.set(offset)
                await asyncio.sleep(2)
            await wait_until(
                lambda: all(not client.missing_from(made) for client in (*steady, *restless)), 20
            )
        for client in steady:
            assert client.resets == []
        for client in (*steady, *restless):
            assert len(client.received) == len(set(client.received))
        assert nodes.defects() == []
