"""Reaps processes that were left to this one: process 1 of a container is their parent.

The embedded store's helpers become such orphans when one of them is killed. Nobody else waits for
them, and zombies would pile up.
"""

import asyncio
import os
from contextlib import suppress

_SECONDS = 1.0


async def reap_forever() -> None:
    """Reap what has ended and nobody waited for. Ends by cancellation.

    asyncio reaps its own within milliseconds; a process that is still there a second later is
    nobody's.
    """
    seen = 0
    while True:
        await asyncio.sleep(_SECONDS)
        if (pid := _ended()) == seen:
            _reap(pid)
            pid = _ended()
        seen = pid


def _ended() -> int:
    """Return the process id of a child that has ended and is not reaped, or 0."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # no children at all
        return 0
    return found.si_pid if found else 0


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # asyncio was quicker
        if pid:
            os.waitpid(pid, os.WNOHANG)
