"""The parts that work on one store, made from the settings: the only place that puts them together.

The server, the tests, the benchmarks and the fault harness open the store here, so none of them can
be built with other keys, retentions or limits than the rest::

    async with open_store(Settings(redis_url="redis://127.0.0.1:6379/0")) as store:
        session = await store.repository.get(session_id)
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from session_service.access.key_ring import ApiKeys
from session_service.metrics.measures import Measures
from session_service.metrics.memory import SharedMemory
from session_service.settings import Settings
from session_service.store.api_keys.registry import ApiKeyRegistry
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.factory import connect, open_executor
from session_service.store.client.urls import StoreUrl, read_url
from session_service.store.events.consumer import Consumer
from session_service.store.events.feed import Feed
from session_service.store.events.outbox import Outbox
from session_service.store.inspection.dataset import DataSetReader
from session_service.store.inspection.monitor import StoreMonitor
from session_service.store.keys import Keys
from session_service.store.limits.failures import Failures
from session_service.store.limits.leases import KeyLimit
from session_service.store.limits.users import UserLimit
from session_service.store.quarantine import Quarantine
from session_service.store.scripts.library import LIBRARY
from session_service.store.sessions.counts import KnownSizes
from session_service.store.sessions.deadlines import Deadlines
from session_service.store.sessions.repairs import Repairs, Verification
from session_service.store.sessions.repository import SessionRepository
from session_service.store.webhooks.registry import Webhooks


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """One store, and the parts that work on it through one executor and one quarantine."""

    settings: Settings
    url: StoreUrl
    executor: ScriptExecutor
    measures: Measures
    keys: Keys
    quarantine: Quarantine
    repository: SessionRepository
    deadlines: Deadlines
    outbox: Outbox
    feed: Feed
    consumer: Consumer  # of the group that delivers to webhooks
    webhooks: Webhooks
    api_keys: ApiKeys
    data_set: DataSetReader
    verification: Verification
    monitor: StoreMonitor
    user_limit: UserLimit | None
    key_limit: KeyLimit | None
    limit_failures: Failures

    @property
    def is_memory(self) -> bool:
        """Whether this is ``memory://``, in this process, which needs no inspection."""
        return self.url.kind == "memory"


@asynccontextmanager
async def open_store(
    settings: Settings,
    client: Any = None,
    memory: SharedMemory | None = None,
    traced: Callable[[ScriptExecutor, StoreUrl], ScriptExecutor] | None = None,
) -> AsyncIterator[Store]:
    """Open the store at ``settings.redis_url``; close its feed and its connections at the end.

    Nothing is sent before the first call. ``client`` is redis-py's for the same URL, by default a
    new one; it is closed, too. ``memory`` is for the numbers of metrics, and ``traced`` makes the
    executor that traces its calls. Raises ValueError if the settings name no store.
    """
    url, timeout = _url_of(settings), settings.store_timeout
    client = connect(url, timeout) if client is None else client
    measures = Measures(memory, LIBRARY.operations)
    executor = open_executor(url, client, timeout, settings.write_ack, measures)
    if traced is not None:
        executor = traced(executor, read_url(url))
    try:
        store = compose(executor, settings)
        try:
            yield store
        finally:
            store.feed.close()
            if store.key_limit is not None:
                await store.key_limit.close()
    finally:
        await executor.close()


def compose(
    executor: ScriptExecutor, settings: Settings, quarantine: Quarantine | None = None
) -> Store:
    """Make the parts of a store on an executor, which the caller closes.

    Several nodes can share an executor this way; each has a quarantine, a feed and caches of its
    own. Raises ValueError if the settings name no store.
    """
    url = read_url(_url_of(settings))
    quarantine = Quarantine() if quarantine is None else quarantine
    keys = Keys(settings.key_prefix)
    retention_ms, history_ms = settings.retention_ms, settings.history_ms
    known_sizes = KnownSizes()
    rates, failures = settings.rates, Failures()
    outbox = Outbox(executor, keys, quarantine)
    monitor = StoreMonitor(executor, keys, url, settings.write_ack)
    repairs = Repairs(executor, keys, retention_ms)
    verification = Verification(executor, keys, quarantine, repairs, monitor.may_evict)
    return Store(
        settings=settings,
        url=url,
        executor=executor,
        measures=executor.signals.measures,
        keys=keys,
        quarantine=quarantine,
        repository=SessionRepository(
            executor,
            keys,
            retention_ms=retention_ms,
            history_ms=history_ms,
            events=settings.events,
            limits=settings.limits,
            quarantine=quarantine,
            known_sizes=known_sizes,
            verification=verification,
        ),
        deadlines=Deadlines(
            executor,
            keys,
            retention_ms=retention_ms,
            history_ms=history_ms,
            quarantine=quarantine,
            known_sizes=known_sizes,
        ),
        outbox=outbox,
        feed=Feed(outbox),
        consumer=Consumer(executor, keys, "webhooks", quarantine),
        webhooks=Webhooks(executor, keys, settings.webhooks, quarantine),
        api_keys=ApiKeys(ApiKeyRegistry(executor, keys, quarantine)),
        data_set=DataSetReader(executor, keys),
        verification=verification,
        monitor=monitor,
        user_limit=UserLimit(keys, rates.user, failures) if rates.user else None,
        key_limit=KeyLimit(executor, keys, rates.key, failures) if rates.key else None,
        limit_failures=failures,
    )


def _url_of(settings: Settings) -> str:
    if settings.redis_url is None:
        raise ValueError("the settings have no redis_url; that of an embedded store is known later")
    return settings.redis_url
