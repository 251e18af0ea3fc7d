"""The store of a process: found or started, and inspected before the service accepts requests."""

import asyncio
import logging
import time
from contextlib import AsyncExitStack, suppress
from typing import NamedTuple

from session_service.composition import Store
from session_service.domain.errors import RecordUnreadable, StoreUnavailable
from session_service.process.notice import Notice
from session_service.process.tasks import Tasks, cancel
from session_service.settings import Settings
from session_service.store.client.urls import read_url
from session_service.store.embedded.server import EmbeddedServer
from session_service.store.embedded.watch import StoreWatch
from session_service.store.inspection.dataset import OldDataError, check_layout
from session_service.store.inspection.kinds import wrong_kind

log = logging.getLogger(__name__)


class UnusableStoreError(Exception):
    """The service can never use the store as it is; the message, one line, is for the operator."""


class FoundStore(NamedTuple):
    """The store's URL, and a description of it for the operator.

    E.g. ``redis://127.0.0.1:6379/0`` and ``redis://127.0.0.1:6379/0; as durable as that server
    is``.
    """

    url: str
    description: str


async def find_store(
    settings: Settings,
    stack: AsyncExitStack,
    tasks: Tasks,
    stopping: asyncio.Task[None],
    notice: Notice,
) -> FoundStore:
    """Return the store of the settings; start the embedded one if they name none.

    Returns early, before the store is ready, if ``stopping`` ends: loading much data takes time.
    """
    if settings.redis_url is None:
        embedded = EmbeddedServer(settings.data_dir, settings.max_memory)
        stack.push_async_callback(embedded.stop)
        await _start(embedded, tasks, stopping, notice)
        return FoundStore(embedded.url, f"{embedded.description}; durable, in {settings.data_dir}")
    url = read_url(settings.redis_url)
    if url.kind == "memory":
        log.warning("REDIS_URL=memory:// keeps sessions in this process alone")
        return FoundStore(settings.redis_url, "memory; NOT durable, for tests only")
    return FoundStore(settings.redis_url, f"{url.address}; as durable as that server is")


async def _start(
    embedded: EmbeddedServer, tasks: Tasks, stopping: asyncio.Task[None], notice: Notice
) -> None:
    starting = asyncio.get_running_loop().create_task(embedded.start())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if stopping.done():
        await cancel(starting)
        return
    starting.result()
    embedded.directory.warn_if_exposed()
    tasks.start(embedded.supervise())
    if embedded.is_modern:
        tasks.start(StoreWatch(embedded, notice.set).run())


async def check_kind(found: FoundStore) -> None:
    """Raise UnusableStoreError if the URL's scheme does not fit the servers behind it."""
    if problem := await wrong_kind(read_url(found.url)):
        raise UnusableStoreError(problem)


async def inspect_store(store: Store, *, is_worker: bool = False) -> None:
    """Inspect the store for the first time. A store that is unavailable may come later.

    Raises UnusableStoreError, but not in a worker: that would end the workers that are already
    running, too.
    """
    monitor = store.monitor
    if not store.is_memory:
        await monitor.refresh()
    if not is_worker:
        if monitor.problem:
            raise UnusableStoreError(monitor.problem)
        if monitor.latest is not None:  # the store was reached
            await _check_layout(store)
    # From now on the monitor also reads the data set, which writes to a store that is new.
    monitor.data_set = store.data_set


async def warn_without_keys(store: Store) -> None:
    """Log how to create an API key if there is none, and no other way to authenticate.

    Says nothing about a store that is unavailable.
    """
    if not store.settings.access.needs_keys:
        return
    with suppress(StoreUnavailable, RecordUnreadable):
        await store.api_keys.refresh()
        if not store.api_keys.has_valid(round(time.time() * 1000)):
            log.warning(
                "access control is on, and there is no valid API key, so every request is refused:"
                " %s",
                "set ELIZA_SERVER_AUTH_TOKEN, since no command reaches memory://"
                if store.is_memory
                else "create a key with `session-service keys create NAME --scopes …`",
            )


async def _check_layout(store: Store) -> None:
    """Raise UnusableStoreError if the store has data of an older format.

    If the store goes away meanwhile, the service starts nevertheless, and replies with 503.
    """
    try:
        with suppress(StoreUnavailable):
            await check_layout(store.executor, store.settings.key_prefix)
    except OldDataError as error:
        raise UnusableStoreError(str(error)) from error
