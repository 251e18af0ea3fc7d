"""``session-service serve``: finds the store, listens, and serves in one process or in several."""

import asyncio
import importlib
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from msgspec.structs import replace

from session_service import __version__, logs
from session_service.access_settings import TOKEN_CHARACTERS
from session_service.composition import open_store
from session_service.metrics.memory import SharedMemory
from session_service.process.listen import (
    ListenError,
    Sockets,
    addresses_of,
    beyond_loopback,
    listen,
)
from session_service.process.listen_fds import ListenFds
from session_service.process.node import serve_requests
from session_service.process.notice import Notice
from session_service.process.reaper import reap_forever
from session_service.process.store import (
    FoundStore,
    UnusableStoreError,
    check_kind,
    find_store,
    inspect_store,
    warn_without_keys,
)
from session_service.process.tasks import Tasks, until_stop_signal
from session_service.process.workers import WorkerError, Workers
from session_service.settings import Settings
from session_service.store.embedded.program import EmbeddedServerError

if TYPE_CHECKING:  # it needs the extra otel
    from session_service.tracing.tracer import Tracing

_STOP_SECONDS = 5.0  # after the drain, until a worker has to have stopped

log = logging.getLogger(__name__)


def run(settings: Settings, listen_fds: ListenFds | None = None) -> int:
    """Serve; return the exit code: 0 after a signal, 1 if the service cannot start or go on."""
    logs.set_up(settings.log_level, settings.log_format)
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if importlib.util.find_spec("uvloop"):  # there is none for Windows
        loop_factory = importlib.import_module("uvloop").new_event_loop
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve(settings, listen_fds))
    except (UnusableStoreError, ListenError, WorkerError, EmbeddedServerError) as error:
        log.critical("cannot serve: %s", error)
        return 1
    except Exception:  # a defect; logged here, so that the trace is one line of the log
        log.exception("defect; the service ends")
        return 1
    finally:
        logs.write_counts()
    return 0


async def serve(settings: Settings, listen_fds: ListenFds | None = None) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then finish the requests in flight and stop the store.

    ``listen_fds`` are the listening sockets that a worker inherits from its supervisor. Raises
    UnusableStoreError, ListenError, WorkerError or EmbeddedServerError if the service cannot start,
    and the exception of a background task that fails: without its sweeper, its deliveries or its
    store the service is of no use.
    """
    async with AsyncExitStack() as stack:
        tasks = Tasks(stack)
        if os.getpid() == 1:
            tasks.start(reap_forever())
        notice = Notice()
        stopping = tasks.start(until_stop_signal(notice if listen_fds else None))
        found = await find_store(settings, stack, tasks, stopping, notice)
        if stopping.done():
            return
        sockets = await _sockets(settings, listen_fds, stack)
        if not listen_fds:
            await check_kind(found)
        if settings.workers > 1:
            async with open_store(replace(settings, redis_url=found.url)) as store:
                await inspect_store(store)
                await warn_without_keys(store)
            await _supervise(settings, found, sockets, stack, tasks, notice=notice)
        else:
            tracing = _tracing(settings)
            if tracing is not None:
                stack.push_async_callback(tracing.close)
            store = await stack.enter_async_context(
                open_store(
                    replace(settings, redis_url=found.url),
                    memory=SharedMemory.from_environment(os.environ, __version__),
                    traced=tracing.of_store if tracing else None,
                )
            )
            await inspect_store(store, is_worker=bool(listen_fds))
            if not listen_fds:
                await warn_without_keys(store)
            await serve_requests(
                store,
                sockets,
                stack,
                tasks,
                notice=notice,
                tracing=tracing,
                when_ready=lambda: _announce(sockets.api, found),
            )


def _tracing(settings: Settings) -> "Tracing | None":
    """Return the tracer of this process, or None if traces are off: the extra may be missing."""
    if not settings.tracing.is_on:
        return None
    module = importlib.import_module("session_service.tracing.tracer")
    tracing: Tracing = module.Tracing(settings.tracing)
    return tracing


async def _sockets(
    settings: Settings, listen_fds: ListenFds | None, stack: AsyncExitStack
) -> Sockets:
    """Return the listening sockets: a worker's inherited ones, else new ones."""
    if listen_fds:
        sockets = Sockets.of(listen_fds)
    else:
        api = await listen(settings.listen_on, settings.port)
        for each in api:
            stack.callback(each.close)
        metrics = []
        if settings.metrics_port:
            metrics = await listen(settings.listen_on, settings.metrics_port)
            log.info("metrics are served", extra={"listens_on": addresses_of(metrics)})
        sockets = Sockets(api, metrics)
        _warn(settings, api)
    for each in (*sockets.api, *sockets.metrics):
        stack.callback(each.close)
    return sockets


async def _supervise(
    settings: Settings,
    found: FoundStore,
    sockets: Sockets,
    stack: AsyncExitStack,
    tasks: Tasks,
    *,
    notice: Notice,
) -> None:
    """Serve by worker processes, until one of the tasks ends."""
    environment = {"WEB_CONCURRENCY": "1"}
    if settings.redis_url is None:  # otherwise the workers read it from the same variable or file
        environment["REDIS_URL"] = found.url
    workers = Workers(settings.workers, sockets, environment)
    stack.push_async_callback(workers.stop, settings.drain_seconds + _STOP_SECONDS)
    for each in sockets.api:  # before that: the workers alone decide when connections are refused
        stack.callback(each.close)
    try:
        await workers.start()
        workers.send_notice(notice.problem)
        notice.when_changed = workers.send_notice
        tasks.start(workers.keep_running())
        _announce(sockets.api, found)
        await tasks.until_one_ends()
    except* WorkerError as errors:
        raise WorkerError(str(errors.exceptions[0])) from None


def _announce(sockets: Sequence[socket.socket], store: FoundStore) -> None:
    """Print the addresses of the service and its store; a supervisor waits for this line.

    E.g. ``session-service 0.2.0 listens on http://127.0.0.1:3000; store: embedded Valkey 9.1.0;
    durable, in data``.
    """
    urls = ", ".join(f"http://{address}" for address in addresses_of(sockets))
    sys.stdout.write(
        f"session-service {__version__} listens on {urls}; store: {store.description}\n"
    )
    sys.stdout.flush()


def _warn(settings: Settings, sockets: Sequence[socket.socket]) -> None:
    """Log settings that the operator may not have meant."""
    access = settings.access
    for warning in (*settings.warnings, *settings.rates.unused(has_access=access.is_on)):
        log.warning(warning)
    if access.has_weak_token:
        log.warning(
            "ELIZA_SERVER_AUTH_TOKEN is so short that it may be guessed; a longer one has at least"
            f" {TOKEN_CHARACTERS} characters"
        )
    if access.session_token_secrets and not access.is_on:
        log.warning(
            "SESSION_TOKEN_SECRET has no effect, because access control is off; AUTH=on turns it on"
        )
    exposed = beyond_loopback(sockets)
    if exposed and not access.is_on and not access.is_silenced:
        log.warning(
            "other machines may reach the service, and access control is off: whoever does can read"
            " and end every session; AUTH=on turns it on, HOST=127.0.0.1 keeps the service to this"
            " machine, and AUTH=off silences this line",
            extra={"listens_on": exposed},
        )
