"""Clients that check every acknowledged change of their sessions while a fault is caused.

``Load`` is what a fault needs to know of them. The clients of ``Workload`` write their own HTTP;
those of ``lives`` are back ends with the Python client.

Each session belongs to one client, which does one operation after the other and records the changes
that were acknowledged. A request that was answered 503, or not at all, may have happened or not,
once, at once or later; everything else must be as acknowledged, on every node.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from chaos.checker import RETENTION_MINUTES
from chaos.client import Client
from chaos.fleet import Fleet
from chaos.http import NotSent, Response
from chaos.observations import ExpectedSession, Observations
from tests.support.api import SESSIONS

# Settings of the nodes that allow brief sessions.
SETTINGS = {
    "SESSION_MIN_TIMEOUT_MINUTES": "0.01",
    "SESSION_EXPIRED_RETENTION_MINUTES": str(RETENTION_MINUTES),
}

_AUDITORS = 8


class Worker(Protocol):
    """A client that works until it is stopped."""

    async def work(self, stop: asyncio.Event, pause: float) -> None:
        """Do one operation after the other, with a random pause of ``pause`` seconds on average."""


class Load:
    """Clients that work at the same time, their sessions, and what they observed."""

    def __init__(self, pause: float) -> None:
        self.observations = Observations()
        self.sessions: list[ExpectedSession] = []
        self._pause = pause
        self._workers: Sequence[Worker] = ()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the clients for the block; all responses have arrived when it ends."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(worker.work(stop, self._pause)) for worker in self._workers]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def wait_for_recovery(
        self, since: float, seconds: float = 0.4, bound: float = 30
    ) -> float:
        """Wait until no request was refused for a while.

        Returns the seconds from ``since`` (monotonic) to the last refusal, and raises
        AssertionError if requests are still refused after the bound.
        """
        await asyncio.sleep(max(0.0, since + seconds - time.monotonic()))
        give_up = time.monotonic() + bound
        observations = self.observations
        while True:
            quiet = time.monotonic() - max(observations.last_refusal, since)
            if quiet >= seconds and observations.served >= 2 * len(self._workers):
                return max(0.0, observations.last_refusal - since)
            if time.monotonic() > give_up:
                raise AssertionError(f"requests are still refused after {bound:g} s")
            await asyncio.sleep(0.02)

    async def audit(self) -> None:
        """Compare all sessions with their acknowledged state, end them, and forget them."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close all connections."""
        raise NotImplementedError


class Workload(Load):
    """Clients of a fleet. If ``nodes_die``, a request may stay without a response."""

    def __init__(
        self, fleet: Fleet, clients: int = 16, *, pause: float = 0.02, nodes_die: bool = False
    ) -> None:
        super().__init__(pause)
        both = [
            Client(fleet, self.observations, n, sessions=self.sessions, nodes_die=nodes_die)
            for n in range(clients + _AUDITORS)
        ]
        self._workers, self._auditors = both[:clients], both[clients:]
        self._clients = both

    async def audit(self) -> None:
        pending = iter(self.sessions.copy())
        self.sessions.clear()

        async def work(client: Client) -> None:
            for session in pending:
                await _audit(client, session, self.observations)

        await asyncio.gather(*(work(client) for client in self._auditors))

    async def close(self) -> None:
        for client in self._clients:
            client.close()


async def _audit(client: Client, session: ExpectedSession, observations: Observations) -> None:
    """Compare a session with its acknowledged state, and end it."""
    path = f"{SESSIONS}/{session.id}"
    found = await _fetch_until_answered(client, "GET", path)
    if session.state == "maybe ended":
        if found.status == 200:
            await _fetch_until_answered(client, "DELETE", path)
        return
    if session.is_brief:
        if found.status == 404 or (session.state, found.status) == ("expired", 200):
            observations.lost.append(f"{session.id}: {session.state}, now {found.status}")
        elif session.state == "suspect":
            observations.add_violation(f"false answer: {session.suspicion}", session)
        return
    if session.state == "ended":
        if found.status == 200:
            observations.lost.append(f"{session.id}: its end")
            await _fetch_until_answered(client, "DELETE", path)
        return
    if found.status != 200:
        reason = f" ({session.suspicion})" if session.suspicion else ""
        observations.lost.append(f"{session.id}: {found.status}{reason}")
        return
    history = await _fetch_until_answered(client, "GET", f"{path}/messages?limit=100")
    listed = await _fetch_until_answered(client, "GET", f"{SESSIONS}?userId={session.user}")
    problems = [*session.info_problems(found.body)]
    problems += session.history_problems(history.body["messages"])
    if [info["sessionId"] for info in listed.body["sessions"]] != [session.id]:
        problems.append("lost from the listing")
    for problem in problems:
        if problem.startswith("WRONG"):
            observations.add_violation(problem, session, "audit")
        else:
            observations.lost.append(f"{session.id}: {problem}")
    if session.state == "suspect" and not problems:
        observations.add_violation(f"false answer: {session.suspicion}", session)
    ended = await _fetch_until_answered(client, "DELETE", path)
    if ended.status != 200:
        problem = f"DELETE answered {ended.status} for a live session"
        observations.add_violation(problem, session)


async def _fetch_until_answered(client: Client, method: str, path: str) -> Response:
    """Repeat a request until it is answered, as it has to be once the fault is over."""
    for _ in range(50):
        with suppress(NotSent):
            response = await client.fetch("audit", method, path)
            if response is not None:
                return response
        await asyncio.sleep(0.05)
    raise AssertionError(f"{method} {path} is not answered when all is well again")
