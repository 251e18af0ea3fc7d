"""The service as a process: start, serve, drain, stop."""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from session_service import __version__
from session_service.domain.timeouts import to_ms
from session_service.settings import Settings
from session_service.store.connection import connect, pipeline
from session_service.store.embedded import EmbeddedServer
from session_service.store.keys import Keys
from session_service.store.repository import SessionRepository
from session_service.sweeper import sweep_forever
from session_service.web.server import Server
from session_service.web.service import Service

_BACKLOG = (
    1024  # connections the kernel keeps until they are accepted; aiohttp's 128 refuses bursts
)
_CUT_SECONDS = 0.1  # for what is left after the drain; aiohttp takes 0 for no bound

log = logging.getLogger(__name__)


class StartError(Exception):
    """The service cannot start; the message is for the operator."""


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight and close the store.

    Raises StartError or EmbeddedServerError where it cannot start, and what ends one of its
    background tasks: a service without its sweeper or its store is none.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)

    async with AsyncExitStack() as stack:
        background: list[asyncio.Task[Any]] = []

        def run(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
            task = loop.create_task(work)
            background.append(task)
            stack.push_async_callback(_cancelled, task)
            return task

        stopping = run(stop.wait())
        url = settings.redis_url
        if url is None:
            embedded = EmbeddedServer(settings.data_dir)
            stack.push_async_callback(embedded.stop)
            starting = loop.create_task(embedded.start())
            await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                await _cancelled(starting)
                return
            starting.result()
            run(embedded.supervise())
            url = embedded.url
            store = f"{embedded.description}; durable, in {settings.data_dir}"
        elif url.startswith("memory:"):
            store = "memory; NOT durable, for tests only"
            log.warning("REDIS_URL=memory:// keeps sessions in this process alone")
        else:
            store = f"{_without_password(url)}; as durable as that server is"

        calls = pipeline(url, connect(url, settings.store_timeout), settings.store_timeout)
        stack.push_async_callback(calls.close)
        repository = SessionRepository(
            calls, Keys(settings.key_prefix), to_ms(settings.retention_minutes)
        )
        service = Service(repository, settings.timeouts)
        run(sweep_forever(repository))

        runner = web.ServerRunner(Server(service), shutdown_timeout=_CUT_SECONDS)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, settings.host, settings.port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise StartError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
            ) from error
        host, port = runner.addresses[0][:2]
        host = f"[{host}]" if ":" in host else host
        sys.stdout.write(
            f"session-service {__version__} listens on http://{host}:{port}; store: {store}\n"
        )
        sys.stdout.flush()

        done, _ = await asyncio.wait(background, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        log.info("stopping", extra={"drain_seconds": settings.drain_seconds})
        await site.stop()
        await service.drain(settings.drain_seconds)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
