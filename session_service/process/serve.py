"""The service as a process, or as a few: start, serve, drain, stop."""

import asyncio
import gc
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import NamedTuple

from aiohttp import web
from msgspec.structs import replace

from session_service import __version__, logs
from session_service.background.deliveries import deliver_forever
from session_service.background.sweeper import sweep_forever
from session_service.composition import Store, open_store
from session_service.domain.errors import StoreUnavailable
from session_service.process.background import Background, cancelled, until_told_to_stop
from session_service.process.listen import (
    BACKLOG,
    ListenError,
    addresses_of,
    allow_files,
    beyond_loopback,
    listen,
)
from session_service.process.reaper import reap_forever
from session_service.process.workers import Notice, WorkerError, Workers
from session_service.settings import Settings
from session_service.store.client.urls import read_url
from session_service.store.embedded.program import EmbeddedServerError
from session_service.store.embedded.server import EmbeddedServer
from session_service.store.embedded.watch import StoreWatch
from session_service.store.inspection.dataset import OldDataError, check_layout
from session_service.store.inspection.kinds import wrong_kind
from session_service.web.http.browsers import BrowserPolicy
from session_service.web.http.create_limit import CreateLimit
from session_service.web.http.handover import Peers
from session_service.web.http.state import AppState
from session_service.web.server import Server

_ACCEPT_SECONDS = 0.05  # for connections that have come before the stop to be accepted
_CUT_SECONDS = 0.1  # for what is left after the drain; aiohttp takes 0 for no bound
_STOP_SECONDS = 5.0  # beyond the drain, for a worker to stop

log = logging.getLogger(__name__)


class StartError(Exception):
    """The service cannot start; the message is for the operator."""


class _FoundStore(NamedTuple):
    url: str
    description: str
    notice: Notice


def run(settings: Settings, listen_fds: Sequence[int] = ()) -> int:
    """Serve, and return the exit code: 0 after a signal, 1 if the service cannot go on."""
    logs.set_up(settings.log_level, settings.log_format)
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if importlib.util.find_spec("uvloop"):  # not to be had everywhere
        loop_factory = importlib.import_module("uvloop").new_event_loop
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve(settings, listen_fds))
    except (StartError, ListenError, EmbeddedServerError) as error:
        log.critical("cannot serve: %s", error)
        return 1
    except Exception:  # a defect: the trace is for the log, as one line of it
        log.exception("defect; the service ends")
        return 1
    return 0


async def serve(settings: Settings, listen_fds: Sequence[int] = ()) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then finish what is in flight and close the store.

    A worker is given the sockets on which to listen. Raises StartError, ListenError or
    EmbeddedServerError if it cannot start, and whatever ends one of its background tasks: a service
    without its sweeper, its workers or its store is none.
    """
    async with AsyncExitStack() as stack:
        background = Background(stack)
        if os.getpid() == 1:
            background.run(reap_forever())
        notice = Notice()
        stopping = background.run(until_told_to_stop(notice if listen_fds else None))
        found = await _find_store(settings, stack, background, stopping, notice)
        if stopping.done():
            return
        if listen_fds:
            sockets = [socket.socket(fileno=fd) for fd in listen_fds]
        else:
            sockets = await listen(settings.listen_on, settings.port)
            _warn(settings, sockets)
        for each in sockets:
            stack.callback(each.close)
        if not listen_fds and (problem := await wrong_kind(read_url(found.url))):
            raise StartError(problem)
        if settings.workers > 1:
            async with open_store(replace(settings, redis_url=found.url)) as store:
                await _check_store(store, is_worker=False)
            await _serve_by_workers(settings, found, sockets, stack, background)
        else:
            await _serve_here(
                settings, found, sockets, stack, background, is_worker=bool(listen_fds)
            )


async def _serve_here(
    settings: Settings,
    found: _FoundStore,
    sockets: list[socket.socket],
    stack: AsyncExitStack,
    background: Background,
    *,
    is_worker: bool,
) -> None:
    settings = replace(settings, redis_url=found.url)
    store = await stack.enter_async_context(open_store(settings))
    await _check_store(store, is_worker=is_worker)
    background.run(store.data_sets.watch_forever(store.quarantine))
    background.run(sweep_forever(store.deadlines, store.outbox, settings.events, store.quarantine))
    background.run(deliver_forever(store.webhooks, store.consumer))
    service = AppState(
        store.repository,
        settings.timeouts,
        store.feed,
        store.webhooks,
        max_in_flight=settings.max_in_flight,
        browsers=BrowserPolicy(settings.origins, settings.hosts),
        creations=CreateLimit(settings.create_limit),
        peers=Peers.from_environment(os.environ),
    )
    service.health_reasons += [
        store.monitor.reasons,
        found.notice.reasons,
        store.quarantine.reasons,
    ]
    if store.url.kind != "memory":
        background.run(store.monitor.run())
    server = Server(service, allow_files(settings.max_connections))
    runner = web.ServerRunner(server, shutdown_timeout=_CUT_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    sites = [web.SockSite(runner, each, backlog=BACKLOG) for each in sockets]
    for site in sites:
        await site.start()
    if service.peers is not None:
        service.peers.receive(server)
    _announce(sockets, found)
    _collect_garbage_less()
    await background.until_one_ends()
    log.info("stopping", extra={"drain_seconds": settings.drain_seconds})
    service.draining = True
    await asyncio.sleep(_ACCEPT_SECONDS)
    for site in sites:
        await site.stop()
    if service.peers is not None:
        service.peers.close()
    await service.drain(settings.drain_seconds, server.has_connections)


async def _serve_by_workers(
    settings: Settings,
    found: _FoundStore,
    sockets: list[socket.socket],
    stack: AsyncExitStack,
    background: Background,
) -> None:
    theirs = {"WEB_CONCURRENCY": "1"}
    if settings.redis_url is None:  # else they read it where this process did
        theirs["REDIS_URL"] = found.url
    workers = Workers(settings.workers, sockets, theirs)
    stack.push_async_callback(workers.stop, settings.drain_seconds + _STOP_SECONDS)
    try:
        await workers.start()
        workers.tell(found.notice.problem)
        found.notice.when_changed = workers.tell
        background.run(workers.keep_running())
        _announce(sockets, found)
        await background.until_one_ends()
    except* WorkerError as errors:
        raise StartError(str(errors.exceptions[0])) from None


def _collect_garbage_less() -> None:
    """Leave alone what is there to stay, and look through the rest less often.

    A request leaves no cycles behind; a creation is 8 % faster for it. The first generation is
    small, because its collections take longest when many connections come and go: 2 ms, not 8.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(1000, 250, 100)


async def _find_store(
    settings: Settings,
    stack: AsyncExitStack,
    background: Background,
    stopping: asyncio.Task[None],
    notice: Notice,
) -> _FoundStore:
    """Return the store, once it has started if it is ours to start.

    Returns early where the service is to stop meanwhile: loading much data takes its time.
    """
    url = settings.redis_url
    if url is None:
        embedded = EmbeddedServer(settings.data_dir, settings.max_memory)
        stack.push_async_callback(embedded.stop)
        starting = asyncio.get_running_loop().create_task(embedded.start())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            await cancelled(starting)
        else:
            starting.result()
            embedded.warn_if_exposed()
            background.run(embedded.supervise())
            if embedded.is_modern:
                background.run(StoreWatch(embedded, notice.set).run())
        return _FoundStore(
            embedded.url, f"{embedded.description}; durable, in {settings.data_dir}", notice
        )
    if url.startswith("memory:"):
        log.warning("REDIS_URL=memory:// keeps sessions in this process alone")
        return _FoundStore(url, "memory; NOT durable, for tests only", notice)
    return _FoundStore(url, f"{read_url(url).address}; as durable as that server is", notice)


async def _check_store(store: Store, *, is_worker: bool) -> None:
    """Inspect the store for the first time; one that is away may come later.

    Raises StartError if it can never be used as it is, but not in a worker: that would end, too,
    the workers that have started before.
    """
    monitor = store.monitor
    if store.url.kind != "memory":
        await monitor.look()
    if monitor.problem and not is_worker:
        raise StartError(monitor.problem)
    if monitor.latest and not is_worker:  # it was reached
        await _check_layout(store)
    monitor.data_sets = store.data_sets  # reading them writes to the store: only from now on


async def _check_layout(store: Store) -> None:
    """Raise StartError if the store has sessions of a version that this one cannot read.

    If the store goes away, the service starts nevertheless, and answers 503 for them later.
    """
    try:
        with suppress(StoreUnavailable):
            await check_layout(store.executor, store.settings.key_prefix)
    except OldDataError as error:
        raise StartError(str(error)) from error


def _announce(sockets: list[socket.socket], found: _FoundStore) -> None:
    """Print one line that says where the service listens, and on which store it works."""
    urls = ", ".join(f"http://{address}" for address in addresses_of(sockets))
    sys.stdout.write(
        f"session-service {__version__} listens on {urls}; store: {found.description}\n"
    )
    sys.stdout.flush()


def _warn(settings: Settings, sockets: list[socket.socket]) -> None:
    """Log what the operator may not have meant."""
    for warning in settings.warnings:
        log.warning(warning)
    if open_to := beyond_loopback(sockets):
        log.warning(
            "other machines may reach the service, which has no access control: whoever does can"
            " read and end every session; HOST=127.0.0.1 keeps it to this machine",
            extra={"listens_on": open_to},
        )
