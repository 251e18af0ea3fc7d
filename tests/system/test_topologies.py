"""The store's pipeline on a Sentinel group and on a cluster of which something breaks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from session_service.domain.errors import StoreUnavailable
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import TimeoutConfig
from session_service.store.connection import connect, pipeline
from session_service.store.keys import Keys
from session_service.store.repository import SessionRepository
from tests.system.faults.stores import cluster_group
from tests.waiting import wait_until

TIMEOUT = 1.0
LASTING = TimeoutConfig(3_600_000, True, 7_200_000, 1000)


@asynccontextmanager
async def sessions_of(
    url: str, acknowledgement: str | None = None, timeout: float = TIMEOUT
) -> AsyncIterator[SessionRepository]:
    calls = pipeline(url, connect(url, timeout), timeout, acknowledgement)
    try:
        yield SessionRepository(calls, Keys("sess"), 60_000)
    finally:
        await calls.close()


async def create(repository: SessionRepository) -> Session:
    return await repository.create(NewSession(str(uuid4()), str(uuid4()), LASTING, b"{}"))


async def created(repository: SessionRepository) -> Session | None:
    """A new session, or nothing where the store cannot be reached."""
    try:
        return await create(repository)
    except StoreUnavailable:
        return None


async def found(repository: SessionRepository, session: Session) -> bool:
    """Whether a session is there; false where the store cannot be reached."""
    try:
        return (await repository.get(session.id)).id == session.id
    except StoreUnavailable:
        return False


async def lost(repository: SessionRepository) -> bool:
    """Whether the store cannot be reached."""
    return await created(repository) is None


class TestCluster:
    """Three masters with a replica each."""

    async def test_one_that_is_away_is_looked_for(self, tmp_path: Path) -> None:
        """Before it was ever seen, and after that."""
        async with cluster_group(tmp_path) as cluster:
            for node in cluster.nodes:
                node.kill()
            async with sessions_of(cluster.url) as repository:
                for _ in range(2):
                    for _ in range(5):
                        assert await created(repository) is None
                        await asyncio.sleep(0.1)
                    await asyncio.gather(*(node.start() for node in cluster.nodes))
                    session = await wait_until(lambda: created(repository))
                    await wait_until(lambda: found(repository, session))
                    for node in cluster.nodes:
                        node.kill()
                    await wait_until(lambda: lost(repository))
