"""Acknowledged changes survive a kill in the middle of writing."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from signal import SIGKILL

from aiohttp import ClientError, ClientSession

from tests.support.api import SESSIONS
from tests.support.factories import session_body
from tests.support.processes import Start
from tests.support.waiting import wait_until

ROUNDS = 3
WRITERS = 8
ENDS = 40  # between two kills


class Ledger:
    """The acknowledged changes."""

    def __init__(self) -> None:
        self.messages: dict[str, list[str]] = {}  # of live sessions
        self.ended: list[str] = []
        self.refused = 0  # 503

    async def write(self, client: ClientSession) -> None:
        """Create sessions, send messages and end sessions, until the service is gone."""
        for turn in itertools.count():
            parties = session_body()
            session_id = await self._ask(client, "POST", SESSIONS, parties, "sessionId")
            if session_id is None:
                continue
            url = f"{SESSIONS}/{session_id}"
            self.messages[session_id] = []
            for n in range(3):
                content = {"content": f"Message {n}"}
                message_id = await self._ask(client, "POST", f"{url}/messages", content, "id")
                if message_id is not None:
                    self.messages[session_id].append(message_id)
            if turn % 2:
                del self.messages[session_id]  # an unacknowledged end may have happened
                if await self._ask(client, "DELETE", url, None, "message"):
                    self.ended.append(session_id)

    async def _ask(
        self,
        client: ClientSession,
        method: str,
        url: str,
        body: dict[str, str] | None,
        member: str,
    ) -> str | None:
        """Make a request; return a member of its response, or None if the store was unavailable."""
        async with client.request(method, url, json=body) as response:
            if response.status == 503:
                self.refused += 1
                return None
            assert response.status in (200, 201), await response.text()
            acknowledged: str = (await response.json())[member]
            return acknowledged

    async def grow(self) -> None:
        """Wait until more sessions have ended."""
        enough = len(self.ended) + ENDS
        await wait_until(lambda: len(self.ended) >= enough, seconds=30)

    async def check(self, client: ClientSession) -> None:
        """Check that all acknowledged changes are there."""
        for session_id in self.ended:
            async with client.get(f"{SESSIONS}/{session_id}") as response:
                assert response.status == 404, session_id
        for session_id, messages in self.messages.items():
            async with client.get(f"{SESSIONS}/{session_id}") as response:
                assert response.status == 200, session_id
            async with client.get(f"{SESSIONS}/{session_id}/messages") as response:
                stored = [message["id"] for message in (await response.json())["messages"]]
            assert set(messages) <= set(stored)


@asynccontextmanager
async def writing(ledger: Ledger, client: ClientSession) -> AsyncIterator[None]:
    """Run several writers; yield once they have ended a number of sessions."""
    writers = [asyncio.create_task(ledger.write(client)) for _ in range(WRITERS)]
    try:
        await ledger.grow()
        yield
    finally:
        for writer in writers:
            writer.cancel()
        outcomes = await asyncio.gather(*writers, return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, ClientError | OSError | asyncio.CancelledError), outcome


async def test_nothing_is_lost_when_the_service_is_killed(start: Start) -> None:
    """After each ``kill -9`` of the service, its successor has all acknowledged changes."""
    ledger = Ledger()
    for _ in range(ROUNDS):
        service = start()
        async with service.client() as client, writing(ledger, client):
            service.kill()
    async with start().client() as client:
        await ledger.check(client)


async def test_nothing_is_lost_when_the_store_is_killed(start: Start) -> None:
    """After each ``kill -9`` of the embedded store, the service has all acknowledged changes."""
    ledger = Ledger()
    service = start()
    async with service.client() as client:
        for _ in range(ROUNDS):
            killed = service.store_pid
            async with writing(ledger, client):
                os.kill(killed, SIGKILL)
                await ledger.grow()
            assert service.store_pid != killed
            await ledger.check(client)
    assert ledger.refused > 0
