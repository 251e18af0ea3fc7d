"""The tasks of a process, and what ends them: a signal, or the end of one of them."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from session_service.process.workers import Notice


class Background:
    """Tasks that last as long as the service; a stack cancels them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        self._stack.push_async_callback(cancelled, task)
        return task

    async def until_one_ends(self) -> None:
        """Wait for the first to end, and raise what it raised."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task, and wait for its end."""
    task.cancel()
    await asyncio.wait([task])


async def until_told_to_stop(supervisor: Notice | None) -> None:
    """Wait for a signal; for a worker also until its supervisor has gone.

    SIGHUP comes when the terminal is closed. If it is ignored from the start, as after ``nohup``,
    it stays ignored.
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


def _read_notice(supervisor: Notice, stdin: int, stop: asyncio.Event) -> None:
    if not supervisor.read(stdin):
        stop.set()
