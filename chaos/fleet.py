"""Service nodes on one store, which a fault can add, stop and kill."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGTERM

from chaos.http import Connection, NotSent, Unanswered, request
from tests.support.processes import ServiceProcess
from tests.support.waiting import wait_until

STORE_TIMEOUT = 2.0  # seconds, the service's default


class Fleet:
    """Service nodes that share a store."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self._folder = folder
        self._settings = settings
        self._numbers = itertools.count(1)
        self.nodes: list[ServiceProcess] = []

    @property
    def ports(self) -> list[int]:
        """The ports that accept requests now."""
        return [node.port for node in self.nodes]

    async def add(self, port: int = 0) -> ServiceProcess:
        """Start one more node, and add it to the ports once it is ready.

        It listens on the ``port``, by default on a free one.
        """
        folder = self._folder / f"service-{next(self._numbers)}"
        node = ServiceProcess(folder, **self._settings, PORT=str(port))
        try:
            await wait_until(lambda: "\n" in node.stdout, 30, every=0.02, description="it listens")
            await wait_until(lambda: is_ready(node.port), 30, every=0.02, description="it is ready")
        except BaseException:
            node.kill()
            raise
        self.nodes.append(node)
        return node

    def kill(self, node: ServiceProcess) -> None:
        """End a node as ``kill -9`` does; its clients notice by their connections."""
        node.kill()
        self.nodes.remove(node)

    async def stop(self, node: ServiceProcess) -> int:
        """Stop a node as an orchestrator does: no new requests, then SIGTERM. Return its exit code.

        Requests that are under way are to be answered.
        """
        self.nodes.remove(node)
        node.signal(SIGTERM)
        return await asyncio.to_thread(node.wait)

    def defects(self) -> list[str]:
        """Return the errors that nodes have logged, other than those about the store's state."""
        return [
            f"{path.parent.name}: {line[:500]}"
            for path in sorted(self._folder.glob("service-*/stderr"))
            for line in path.read_text().splitlines()
            if "Traceback" in line
            or (
                '"level": "error"' in line
                and "session_service.store.inspection.monitor" not in line
            )
        ]


@asynccontextmanager
async def fleet(folder: Path, url: str, count: int = 1, **settings: str) -> AsyncIterator[Fleet]:
    """Run nodes on a store's URL for the block, with further settings."""
    nodes = Fleet(folder, {"REDIS_URL": url, "LOG_FORMAT": "json", **settings})
    try:
        await asyncio.gather(*(nodes.add() for _ in range(count)))
        yield nodes
    finally:
        for node in nodes.nodes:
            node.kill()


async def is_ready(port: int) -> bool:
    """Return whether ``GET /readyz`` of a node succeeds."""
    try:
        connection = await Connection.to(port)
        try:
            async with asyncio.timeout(5):
                response = await connection.fetch(request("GET", "/readyz", "probe"))
        finally:
            connection.close()
    except (NotSent, Unanswered, TimeoutError):
        return False
    return response.status == 200
