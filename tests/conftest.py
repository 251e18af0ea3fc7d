"""Fixtures of all suites. The suites store/ and http/ run on fakeredis and on real servers."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from session_service.composition import Store, open_store
from session_service.domain.ids import SHARDS
from session_service.domain.sessions import SessionLimits
from session_service.domain.timeouts import TimeoutPolicy, to_minutes
from session_service.domain.webhooks import WebhookPolicy
from session_service.settings import Settings
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.factory import connect
from session_service.store.events.feed import Feed
from session_service.store.events.outbox import Outbox
from session_service.store.sessions.deadlines import Deadlines
from session_service.store.sessions.repository import SessionRepository
from session_service.store.webhooks.registry import Webhooks
from session_service.web.http.state import AppState
from tests.support.api import Client
from tests.support.factories import RETENTION_MS, STORE_TIMEOUT, store_settings
from tests.support.servers import store_server, valkey_binary
from tests.support.service import ServiceUnderTest, app_state
from tests.support.tls import Certificate, make_certificate
from tests.support.tools import needs, report_missing


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report at the end how many tests were skipped for a missing tool."""
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
    """The URL of a store, which tests use one after the other."""
    if request.param == "fakeredis":
        return "memory://"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def redis(store_url: str) -> AsyncIterator[Redis]:
    """A client of an empty store; a test that leaves a key without a TTL fails."""
    client = connect(store_url, STORE_TIMEOUT)
    await client.flushall()
    yield client
    immortal = [key async for key in client.scan_iter() if await client.ttl(key) == -1]
    await client.aclose()
    assert immortal == []


@pytest.fixture
def retention_ms() -> int:
    """The retention of expired sessions; a test may override it."""
    return RETENTION_MS


@pytest.fixture
def history_ms() -> int:
    """The retention of conversations whose session is over; a test may override it."""
    return 0


@pytest.fixture
def policy() -> TimeoutPolicy:
    """The default timeouts; a test whose sessions expire overrides them."""
    return TimeoutPolicy()


@pytest.fixture
def limits() -> SessionLimits:
    """No limits on sessions and messages; a test may override them."""
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
    """The settings of the store and the service under test."""
    return store_settings(
        store_url,
        retention_minutes=to_minutes(retention_ms),
        history_minutes=to_minutes(history_ms),
        timeouts=policy,
        limits=limits,
        webhooks=webhook_policy,
    )


@pytest.fixture
async def store(redis: Redis, settings: Settings) -> AsyncIterator[Store]:
    """The parts of a node that work on the store, composed as in the server."""
    async with open_store(settings, redis) as store:
        yield store


@pytest.fixture
def executor(store: Store) -> ScriptExecutor:
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
    """The outbox has begun before the test, as that of a running service."""
    await outbox.begin_pasts(SHARDS)


@pytest.fixture
def feed(store: Store) -> Feed:
    return store.feed


@pytest.fixture
def webhooks(store: Store) -> Webhooks:
    return store.webhooks


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def service(store: Store) -> AppState:
    return app_state(store)


@pytest.fixture
async def client(service: AppState, aiohttp_client: Callable[..., Any]) -> Client:
    """An HTTP client of the service."""
    client: Client = await aiohttp_client(ServiceUnderTest(service))
    return client
