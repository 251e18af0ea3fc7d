"""What the suites share. Those of store/ and http/ run on fakeredis and on real servers."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer
from redis.asyncio import Redis

from session_service.composition import Store, open_store
from session_service.domain.budgets import CONNECTIONS
from session_service.domain.ids import SHARDS
from session_service.domain.sessions import SessionLimits
from session_service.domain.timeouts import TimeoutPolicy, to_minutes
from session_service.domain.webhooks import WebhookPolicy
from session_service.settings import Settings
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.factory import connect
from session_service.store.events.feed import Feed
from session_service.store.events.outbox import Outbox
from session_service.store.keys import Keys
from session_service.store.sessions.deadlines import Deadlines
from session_service.store.sessions.repository import SessionRepository
from session_service.store.webhooks.registry import Webhooks
from session_service.web.http.state import AppState
from session_service.web.server import Server
from tests.support.api import Client
from tests.support.servers import store_server, valkey_binary
from tests.support.tls import Certificate, make_certificate
from tests.support.tools import needs, report_missing

STORE_TIMEOUT = 5.0
RETENTION_MS = 60_000
PREFIX = "test"
KEYS = Keys(PREFIX)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end which tools were missing."""
    report_missing(terminalreporter)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    with store_server(valkey_binary()) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with store_server("redis-server") as url:
        yield url


@pytest.fixture(params=["fakeredis", "valkey", pytest.param("redis", marks=needs("redis-server"))])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of a store; several tests may use it one after the other."""
    if request.param == "fakeredis":
        return "memory://"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def redis(store_url: str) -> AsyncIterator[Redis]:
    """An empty store. A key that a test leaves in it without a TTL fails that test."""
    client = connect(store_url, STORE_TIMEOUT)
    await client.flushall()
    yield client
    immortal = [key async for key in client.scan_iter() if await client.ttl(key) == -1]
    await client.aclose()
    assert immortal == []


@pytest.fixture
def retention_ms() -> int:
    """How long expired sessions are remembered; a test may override it."""
    return RETENTION_MS


@pytest.fixture
def history_ms() -> int:
    """How long conversations are kept when their session is over; a test may override it."""
    return 0


@pytest.fixture
def policy() -> TimeoutPolicy:
    """The rules as published; a test that has to see sessions run out overrides it."""
    return TimeoutPolicy()


@pytest.fixture
def limits() -> SessionLimits:
    """How much may be stored, here without an end; a test may override it."""
    return SessionLimits(per_user=0, messages=0)


@pytest.fixture
def webhook_policy() -> WebhookPolicy:
    return WebhookPolicy()


@pytest.fixture
def settings(
    *,
    store_url: str,
    retention_ms: int,
    history_ms: int,
    policy: TimeoutPolicy,
    limits: SessionLimits,
    webhook_policy: WebhookPolicy,
) -> Settings:
    """The settings from which the store and the service of a test are made."""
    return Settings(
        redis_url=store_url,
        key_prefix=PREFIX,
        store_timeout=STORE_TIMEOUT,
        retention_minutes=to_minutes(retention_ms),
        history_minutes=to_minutes(history_ms),
        timeouts=policy,
        limits=limits,
        webhooks=webhook_policy,
    )


@pytest.fixture
async def store(redis: Redis, settings: Settings) -> AsyncIterator[Store]:
    """All that works on the store, as the server has it."""
    async with open_store(settings, redis) as store:
        yield store


@pytest.fixture
def executor(store: Store) -> ScriptExecutor:
    """The way to the store."""
    return store.executor


@pytest.fixture
def repository(store: Store) -> SessionRepository:
    return store.repository


@pytest.fixture
def deadlines(store: Store) -> Deadlines:
    return store.deadlines


@pytest.fixture
def outbox(store: Store) -> Outbox:
    return store.outbox


@pytest.fixture
async def begun(outbox: Outbox) -> None:
    """The outbox knows its past from before the test on, as that of a running service does."""
    await outbox.begin(SHARDS)


@pytest.fixture
def feed(store: Store) -> Feed:
    """What is told of the sessions of the repository."""
    return store.feed


@pytest.fixture
def webhooks(store: Store) -> Webhooks:
    return store.webhooks


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


class ServiceUnderTest(BaseTestServer):
    """The server that runs in production, on a free port of 127.0.0.1."""

    def __init__(self, service: AppState, max_connections: int = CONNECTIONS) -> None:
        self.service = service
        self._max_connections = max_connections
        super().__init__(host="127.0.0.1")

    async def _make_runner(self, **_: Any) -> web.ServerRunner:
        return web.ServerRunner(Server(self.service, self._max_connections))


@pytest.fixture
def service(
    repository: SessionRepository, policy: TimeoutPolicy, feed: Feed, webhooks: Webhooks
) -> AppState:
    return AppState(repository, policy, feed, webhooks)


@pytest.fixture
async def client(service: AppState, aiohttp_client: Callable[..., Any]) -> Client:
    """An HTTP client of the service."""
    client: Client = await aiohttp_client(ServiceUnderTest(service))
    return client
