"""The service as a process, or as a few: start, serve, drain, stop."""

import asyncio
import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from aiohttp import web

from session_service import __version__
from session_service.deliveries import deliver_forever
from session_service.domain.errors import StoreUnavailable
from session_service.domain.timeouts import MS_PER_MINUTE, to_ms
from session_service.settings import Settings
from session_service.store.connection import connect, pipeline
from session_service.store.consumer import Consumer
from session_service.store.deadlines import Deadlines
from session_service.store.embedded import EmbeddedServer
from session_service.store.feed import Feed
from session_service.store.inspection import StoreTooOldError, inspect
from session_service.store.keys import Keys
from session_service.store.outbox import Outbox
from session_service.store.quarantine import Quarantine
from session_service.store.repository import SessionRepository
from session_service.store.urls import read_url
from session_service.store.webhooks import Webhooks
from session_service.sweeper import sweep_forever
from session_service.web.browsers import BrowserPolicy
from session_service.web.server import Server
from session_service.web.service import Service
from session_service.workers import WorkerError, Workers

# Connections the kernel keeps until they are accepted; aiohttp's 128 refuses bursts.
_BACKLOG = 1024
_ACCEPT_SECONDS = 0.05  # for connections that have come before the stop to be accepted
_CUT_SECONDS = 0.1  # for what is left after the drain; aiohttp takes 0 for no bound
_STOP_SECONDS = 5.0  # beyond the drain, for a worker to stop
_OTHER_FILES = 256  # file descriptors beside connections

log = logging.getLogger(__name__)


class StartError(Exception):
    """The service cannot start; the message is for the operator."""


class _Store(NamedTuple):
    url: str
    description: str


async def serve(settings: Settings, listen_fds: Sequence[int] = ()) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight and close the store.

    A worker is given the sockets on which to listen. Raises StartError or EmbeddedServerError where
    it cannot start, and what ends one of its background tasks: a service without its sweeper, its
    workers or its store is none.
    """
    async with AsyncExitStack() as stack:
        background = _Background(stack)
        stopping = background.run(_until_told_to_stop(is_worker=bool(listen_fds)))
        store = await _find_store(settings, stack, background, stopping)
        if stopping.done():
            return
        if listen_fds:
            sockets = [socket.socket(fileno=fd) for fd in listen_fds]
        else:
            sockets = await _bind(settings, stack)
            await _look_at(store, settings)
        if settings.workers > 1:
            await _serve_by_workers(settings, store, sockets, stack, background)
        else:
            await _serve_here(settings, store, sockets, stack, background)


async def _serve_here(
    settings: Settings,
    store: _Store,
    sockets: list[socket.socket],
    stack: AsyncExitStack,
    background: "_Background",
) -> None:
    calls = pipeline(
        store.url,
        connect(store.url, settings.store_timeout),
        settings.store_timeout,
        settings.write_ack,
    )
    stack.push_async_callback(calls.close)
    keys = Keys(settings.key_prefix)
    retention_ms = to_ms(settings.retention_minutes)
    history_ms = round(settings.history_minutes * MS_PER_MINUTE)
    quarantine = Quarantine()
    repository = SessionRepository(
        calls, keys, retention_ms, settings.events, history_ms, quarantine=quarantine
    )
    outbox = Outbox(calls, keys, quarantine)
    webhooks = Webhooks(calls, keys, settings.webhooks)
    deadlines = Deadlines(calls, keys, retention_ms, history_ms, quarantine)
    consumer = Consumer(calls, keys, quarantine=quarantine)
    background.run(sweep_forever(deadlines, outbox, settings.events, quarantine))
    background.run(deliver_forever(webhooks, consumer))
    service = Service(
        repository,
        settings.timeouts,
        Feed(outbox),
        webhooks,
        max_in_flight=settings.max_in_flight,
        browsers=BrowserPolicy(settings.origins, settings.hosts),
    )
    server = Server(service, _allow_files(settings.max_connections))
    runner = web.ServerRunner(server, shutdown_timeout=_CUT_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    sites = [web.SockSite(runner, each, backlog=_BACKLOG) for each in sockets]
    for site in sites:
        await site.start()
    _announce(sockets, store)
    _collect_garbage_less()
    await background.until_one_ends()
    log.info("stopping", extra={"drain_seconds": settings.drain_seconds})
    service.draining = True
    await asyncio.sleep(_ACCEPT_SECONDS)
    for site in sites:
        await site.stop()
    await service.drain(settings.drain_seconds, server.has_connections)


async def _serve_by_workers(
    settings: Settings,
    store: _Store,
    sockets: list[socket.socket],
    stack: AsyncExitStack,
    background: "_Background",
) -> None:
    workers = Workers(settings.workers, sockets, {"WEB_CONCURRENCY": "1", "REDIS_URL": store.url})
    stack.push_async_callback(workers.stop, settings.drain_seconds + _STOP_SECONDS)
    try:
        await workers.start()
        background.run(workers.keep_running())
        _announce(sockets, store)
        await background.until_one_ends()
    except* WorkerError as errors:
        raise StartError(str(errors.exceptions[0])) from None


class _Background:
    """Tasks that last as long as the service; a stack cancels them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        self._stack.push_async_callback(_cancelled, task)
        return task

    async def until_one_ends(self) -> None:
        """Wait for the first to end, and raise what it raised."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _collect_garbage_less() -> None:
    """Leave alone what is there to stay, and look through the rest less often.

    A request leaves no cycles behind; a creation is 8 % faster for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 50, 100)


async def _until_told_to_stop(*, is_worker: bool) -> None:
    """Wait for a signal; for a worker also until its supervisor has gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    if is_worker:
        loop.add_reader(sys.stdin.fileno(), stop.set)
    await stop.wait()
    if is_worker:
        loop.remove_reader(sys.stdin.fileno())


async def _find_store(
    settings: Settings, stack: AsyncExitStack, background: _Background, stopping: asyncio.Task[None]
) -> _Store:
    """Return the store, once it has started if it is ours to start.

    Returns early where the service is to stop meanwhile: loading much data takes its time.
    """
    url = settings.redis_url
    if url is None:
        embedded = EmbeddedServer(settings.data_dir)
        stack.push_async_callback(embedded.stop)
        starting = asyncio.get_running_loop().create_task(embedded.start())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            await _cancelled(starting)
        else:
            starting.result()
            background.run(embedded.supervise())
        return _Store(embedded.url, f"{embedded.description}; durable, in {settings.data_dir}")
    if url.startswith("memory:"):
        log.warning("REDIS_URL=memory:// keeps sessions in this process alone")
        return _Store(url, "memory; NOT durable, for tests only")
    return _Store(url, f"{read_url(url).address}; as durable as that server is")


async def _look_at(store: _Store, settings: Settings) -> None:
    """Log what the store is and what of it puts sessions at risk; raises StartError.

    A store that is away does not stop the start: it may come later.
    """
    if store.url.startswith("memory:"):
        return
    client = connect(store.url, settings.store_timeout)
    try:
        async with asyncio.timeout(settings.store_timeout):
            found = await inspect(client)
    except StoreTooOldError as error:
        raise StartError(str(error)) from error
    except (StoreUnavailable, TimeoutError) as error:
        log.warning("store cannot be reached yet", extra={"reason": _reason(error)})
    else:
        log.info("store", extra={"server": found.server, "topology": found.topology})
        for warning in found.warnings:
            log.warning(warning)
        if settings.write_ack == "fsync" and not found.acknowledges_fsync:
            raise StartError(
                "WRITE_ACK=fsync needs a store of Redis 7.2 or later, or Valkey, with an"
                " append-only file (appendonly yes)"
            )
    finally:
        await client.aclose()


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, StoreUnavailable) else "no reply in time"


async def _bind(settings: Settings, stack: AsyncExitStack) -> list[socket.socket]:
    """Take the port, on every address of the host; raises StartError."""
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []
    port = settings.port
    try:
        for family, _, _, _, address in dict.fromkeys(
            await loop.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM)
        ):
            listener = socket.create_server(
                (str(address[0]), port), family=family, backlog=_BACKLOG
            )
            stack.callback(listener.close)
            sockets.append(listener)
            port = listener.getsockname()[1]  # a free one is the same on all addresses
    except OSError as error:
        raise StartError(
            f"cannot listen on {settings.host}:{settings.port}: {_why(error)}"
        ) from error
    return sockets


def _why(error: OSError) -> str:
    """Say it without the address, which ``socket`` puts behind."""
    return str(error.strerror).partition(" (")[0]


def _announce(sockets: list[socket.socket], store: _Store) -> None:
    """Tell in one line that the service listens, and on what."""
    host, port = sockets[0].getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    sys.stdout.write(
        f"session-service {__version__} listens on {address}; store: {store.description}\n"
    )
    sys.stdout.flush()


def _allow_files(connections: int) -> int:
    """Raise the limit of open files for that many connections; how many can be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    wanted = connections + _OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < wanted:
        log.warning(
            "the limit of open files allows fewer connections",
            extra={"allowed": soft - _OTHER_FILES, "wanted": connections},
        )
    return min(connections, max(1, soft - _OTHER_FILES))
