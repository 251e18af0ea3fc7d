"""The end of a command whose output nobody reads any more."""

import asyncio
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def while_read() -> Iterator[None]:
    """Raise BrokenPipeError in the block when the reader of standard output has gone.

    Without this, ``events tail | head -3`` would end at the fourth event only, which may not come.
    Nothing happens if standard output is not a pipe.
    """
    try:
        fd = sys.stdout.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:  # it has no file descriptor
        is_pipe = False
    if not is_pipe:
        yield
        return
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    has_gone = False

    def end() -> None:
        nonlocal has_gone
        has_gone = True
        loop.remove_reader(fd)
        if task is not None:
            task.cancel()

    # The end that writes is never readable, so this is called for an error only.
    loop.add_reader(fd, end)
    try:
        yield
    except asyncio.CancelledError:
        if has_gone:
            raise BrokenPipeError from None
        raise
    finally:
        loop.remove_reader(fd)
