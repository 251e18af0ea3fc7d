"""The background tasks of a process, and the signals that end it."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from session_service.process.notice import Notice


class Tasks:
    """Tasks that run until the process stops; the exit stack cancels them, the newest first."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        self._stack.push_async_callback(cancel, task)
        return task

    async def until_one_ends(self) -> None:
        """Wait until the first task ends; raise its exception if it failed."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    await asyncio.wait([task])


async def until_stop_signal(supervisor: Notice | None) -> None:
    """Wait for SIGTERM, SIGINT or SIGHUP; in a worker also for the end of its supervisor.

    SIGHUP comes when the terminal is closed. If the process was started with it ignored, as by
    ``nohup``, it stays ignored. A worker passes the notice that its supervisor writes to its
    standard input.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    for signum in signals:
        loop.add_signal_handler(signum, stop.set)
    if supervisor is not None:
        stdin = sys.stdin.fileno()
        loop.add_reader(stdin, _read_notice, supervisor, stdin, stop)
    await stop.wait()
    if supervisor is not None:
        loop.remove_reader(stdin)


def _read_notice(notice: Notice, stdin: int, stop: asyncio.Event) -> None:
    if not notice.read(stdin):
        stop.set()
