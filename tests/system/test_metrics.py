"""Metrics of a node with several workers."""

import os
import re
from signal import SIGKILL

from aiohttp import ClientSession, TCPConnector

from chaos.stores.server import free_port
from tests.support.api import SESSIONS, create
from tests.support.processes import Start
from tests.support.waiting import wait_until
from tests.system.test_workers import workers_of

ENDED = 'session_service_transitions_total{type="ended"}'


async def read(port: int, path: str = "/metrics") -> str:
    async with ClientSession() as client, client.get(f"http://127.0.0.1:{port}{path}") as response:
        assert response.status == 200
        return await response.text()


def number(text: str, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (.*)$", text, re.MULTILINE)
    assert found, series
    return float(found[1])


async def end_sessions(port: int, count: int) -> None:
    """Create and end sessions, each on a new connection, so that every worker gets some."""
    connector = TCPConnector(force_close=True)
    async with ClientSession(f"http://127.0.0.1:{port}", connector=connector) as client:
        for _ in range(count):
            session_id = (await create(client))["sessionId"]
            async with client.delete(f"{SESSIONS}/{session_id}") as response:
                assert response.status == 200


async def test_no_count_is_lost_with_a_worker(start: Start, store_url: str) -> None:
    """METRICS_PORT has the sums of all workers, also of one that was killed."""
    metrics_port = free_port()
    service = start(REDIS_URL=store_url, WEB_CONCURRENCY="2", METRICS_PORT=str(metrics_port))
    await end_sessions(service.port, 20)
    text = await read(metrics_port)
    assert number(text, ENDED) == 20
    assert number(text, "session_service_store_up") == 1
    assert number(text, 'session_service_sessions{state="expired"}') == 0
    killed = min(workers_of(service))
    os.kill(killed, SIGKILL)
    await wait_until(lambda: len(workers_of(service) - {killed}) == 2)
    await end_sessions(service.port, 10)
    text = await read(metrics_port)
    assert number(text, ENDED) == 30
    assert 'db_client_operation_duration_seconds_count{db_operation_name="end"} 30.0' in text
    assert await read(metrics_port, "/readyz")
    # The store is younger than the retention, and its outbox has all events.
    assert number(text, "session_service_outbox_retained_seconds") == 3600


async def test_the_state_of_the_store_is_shown(start: Start) -> None:
    """Prometheus learns that the embedded store is durable and evicts nothing."""
    service = start()
    text = await read(service.port)
    assert number(text, "session_service_store_durable") == 1
    assert number(text, "session_service_store_evicts") == 0
    assert number(text, "session_service_outbox_retained_seconds") == 3600
    assert 'session_service_build_info{version="' in text
