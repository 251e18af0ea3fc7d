"""The interface of the stores that faults break, and the store of a single server."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from chaos.stores.server import StoreServer
from tests.support.clocks import SettableClock

DOWN_AFTER_MS = 1000  # until Sentinel, or a cluster, declares a silent server dead
CHANGE_SECONDS = 20.0  # bound for a change of topology, which takes far less


class Store:
    """A store that nodes use, and the servers behind its URL."""

    url: str
    servers: Sequence[StoreServer]  # those that hold data

    async def masters(self) -> list[StoreServer]:
        """Return the servers that accept writes now."""
        return list(self.servers)


class ReplicatedStore(Store):
    """A store in which a replica takes over from its master."""

    all_servers: Sequence[StoreServer]  # with those that hold no data, such as sentinels

    async def is_healthy(self) -> bool:
        """Return whether every master has its replicas, in step, and all servers agree."""
        raise NotImplementedError

    async def is_replaced(self, master: StoreServer) -> bool:
        """Return whether the other servers have promoted a replica in place of a master."""
        raise NotImplementedError

    async def restart(self, server: StoreServer) -> None:
        """Start a former master that was killed."""
        await server.start()


class SingleServer(Store):
    """One server with an append-only file."""

    def __init__(self, server: StoreServer) -> None:
        self.server = server
        self.servers = [server]
        self.url = f"redis://{server.address}/0"


@asynccontextmanager
async def single_server(
    folder: Path, fsync: str = "everysec", clock: SettableClock | None = None
) -> AsyncIterator[SingleServer]:
    """Run one server; ``fsync`` is its ``appendfsync``, and ``clock`` replaces its clock."""
    server = StoreServer(folder / "server", "appendonly yes", f"appendfsync {fsync}")
    if clock is not None:
        server.environment = clock.environment
    try:
        await server.start()
        yield SingleServer(server)
    finally:
        await server.close()
