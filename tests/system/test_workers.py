"""Several worker processes on one port."""

import os
import socket
from signal import SIGKILL, SIGTERM

import pytest
from aiohttp import ClientSession, TCPConnector
from yarl import URL

from session_service.process.listen import Sockets
from session_service.process.workers import WorkerError, Workers
from tests.support.api import SESSIONS
from tests.support.factories import session_body
from tests.support.processes import ServiceProcess, Start, is_closed
from tests.support.waiting import wait_until


def workers_of(service: ServiceProcess) -> set[int]:
    """Return the process ids of the workers, from the log."""
    pids = {
        event: {line["worker"] for line in service.log if line["event"] == event}
        for event in ("worker started", "worker ended; starting another")
    }
    started, ended = pids.values()
    return started - ended


async def answered_by(service: ServiceProcess) -> set[str]:
    """Make requests on several connections; return the processes that answered."""
    names = set()
    connector = TCPConnector(force_close=True)
    url = f"http://127.0.0.1:{service.port}"
    async with ClientSession(url, connector=connector) as client:
        for _ in range(20):
            async with client.get("/readyz") as response:
                assert response.status == 200
                names.add(response.headers["X-Request-ID"].partition("-")[0])
    return names


async def test_each_worker_serves(start: Start, store_url: str) -> None:
    """Both workers get connections, and share the sessions."""
    service = start(REDIS_URL=store_url, WEB_CONCURRENCY="2")

    async def both_answer() -> bool:
        return len(await answered_by(service)) == 2

    await wait_until(both_answer)
    parties = session_body()
    connector = TCPConnector(force_close=True)
    url = f"http://127.0.0.1:{service.port}"
    async with ClientSession(url, connector=connector) as client:
        for _ in range(10):
            async with client.post(SESSIONS, json=parties) as response:
                location = response.url.join(URL(response.headers["Location"]))
            async with client.delete(location) as response:
                assert response.status == 200
    assert service.stdout.count("\n") == 1
    service.signal(SIGTERM)
    assert service.wait() == 0


async def test_a_worker_that_dies_is_replaced(start: Start, store_url: str) -> None:
    """Other workers answer throughout, and a new one replaces the dead one."""
    service = start(REDIS_URL=store_url, WEB_CONCURRENCY="2")
    assert service.port
    first, second = workers_of(service)
    os.kill(first, SIGKILL)

    def is_replaced() -> bool:
        now = workers_of(service)
        return len(now) == 2 and first not in now and second in now

    await wait_until(is_replaced)
    assert await answered_by(service)


async def test_workers_end_with_their_supervisor(start: Start) -> None:
    """However the supervisor ends, nothing listens on the port any more."""
    service = start(WEB_CONCURRENCY="2")
    port = service.port
    service.kill()
    await wait_until(lambda: is_closed(port))


async def test_a_worker_that_cannot_start_stops_the_whole() -> None:
    """A worker that cannot start stops the service."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        workers = Workers(2, Sockets([listener], []), {"PORT": "none"})
        with pytest.raises(WorkerError, match="exit status is 2"):
            await workers.start()
        await workers.stop(5)
