"""Lines of a file or pipe, which are read while the event loop runs."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress

_BLOCK_BYTES = 262_144


async def lines_of(fd: int) -> AsyncGenerator[bytes, None]:
    """Return the lines of an open file; a last one without a newline is left out."""
    parts: list[bytes] = []
    while block := await _read(fd):
        first, *others = block.split(b"\n")
        parts.append(first)
        if others:
            yield b"".join(parts)
            for line in others[:-1]:
                yield line
            parts = [others[-1]]


async def _read(fd: int) -> bytes:
    """Read a block in a thread, which does not keep the program from ending.

    A pool of threads would wait at the end for a terminal or pipe that sends nothing.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[bytes] = loop.create_future()

    def deliver(block: bytes, error: OSError | None) -> None:
        if found.cancelled():
            return
        if error:
            found.set_exception(error)
        else:
            found.set_result(block)

    def read() -> None:
        block, error = b"", None
        try:
            block = os.read(fd, _BLOCK_BYTES)
        except OSError as problem:
            error = problem
        with suppress(RuntimeError):  # the loop is closed: the program ends
            loop.call_soon_threadsafe(deliver, block, error)

    threading.Thread(target=read, daemon=True).start()
    return await found
