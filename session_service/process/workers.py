"""Starts worker processes on one port, restarts those that end, and stops all together.

A worker is this program again, on the listening sockets of this process, which serves no requests
itself.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import cast

from session_service import __version__
from session_service.metrics import memory
from session_service.metrics.memory import SharedMemory
from session_service.process import listen_fds
from session_service.process.listen import Sockets
from session_service.web.http import handover

_START_SECONDS = 30.0  # until a worker prints its addresses
_STABLE_SECONDS = 10.0  # a worker that ran for this long is started again without delay
_MAX_DELAY_SECONDS = 5.0

log = logging.getLogger(__name__)


class WorkerError(Exception):
    """A worker does not start; the message, one line, is for the operator."""


class Workers:
    """The workers of one service.

    ``settings``, e.g. ``{"WEB_CONCURRENCY": "1"}``, are added to the environment of each. The
    standard input of a worker is a pipe from this process, so it ends when this process does.
    """

    def __init__(self, count: int, sockets: Sockets, settings: Mapping[str, str]) -> None:
        self._count = count
        self._fds = sockets.fds()
        self._memory = SharedMemory.create(count)
        self._pairs = handover.pairs(count)
        self._inherited = [
            *self._fds.api,
            *self._fds.metrics,
            self._memory.fd,
            *(each.fileno() for pair in self._pairs for each in pair),
        ]
        self._environment = {**os.environ, **settings}
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._notice = b""

    def send_notice(self, problem: str) -> None:
        """Send the store's problem to all workers, and to those that start later."""
        self._notice = problem.encode() + b"\n"
        for process in self._processes.values():
            if process.stdin and process.returncode is None:
                process.stdin.write(self._notice)

    async def start(self) -> None:
        """Start all workers, and wait until they serve; raises WorkerError."""
        await asyncio.gather(*(self._start(number) for number in range(self._count)))

    async def keep_running(self) -> None:
        """Restart each worker that ends. Ends by cancellation.

        Raises WorkerError if one does not start: trying forever would hide the cause.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._keep_running(number))

    async def stop(self, seconds: float) -> None:
        """Send SIGTERM to all workers and wait for them; kill those that take longer than this."""
        running = [each for each in self._processes.values() if each.returncode is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(process.wait() for process in running))
        for process in running:
            if process.returncode is None:
                log.error("worker does not stop; killing it", extra={"worker": process.pid})
                process.kill()
                await process.wait()
        for pair in self._pairs:
            for each in pair:
                each.close()

    async def _keep_running(self, number: int) -> None:
        delay = 0.0
        while True:
            started = time.monotonic()
            process = self._processes[number]
            status = await process.wait()
            if time.monotonic() - started > _STABLE_SECONDS:
                delay = 0.0
            log.error(
                "worker ended; starting another", extra={"worker": process.pid, "status": status}
            )
            await asyncio.sleep(delay)
            delay = min(0.1 + 2 * delay, _MAX_DELAY_SECONDS)
            await self._start(number)

    async def _start(self, number: int) -> None:
        process = self._processes[number] = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "session_service", "serve",
            listen_fds.OPTION, listen_fds.write(self._fds),
            env={
                **self._environment,
                handover.VARIABLE: handover.variable_for(number, self._pairs),
                memory.VARIABLE: self._memory.variable_for(number, __version__),
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=self._inherited,
            start_new_session=True,  # a terminal's Ctrl-C is for this process, which passes it on
        )  # fmt: skip
        output = cast("asyncio.StreamReader", process.stdout)
        line = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                line = await output.readline()
        if not line:
            with suppress(ProcessLookupError):  # it has ended already
                process.kill()
            status = await process.wait()
            raise WorkerError(f"a worker process does not start; its exit status is {status}")
        cast("asyncio.StreamWriter", process.stdin).write(self._notice)
        log.info("worker started", extra={"worker": process.pid})
