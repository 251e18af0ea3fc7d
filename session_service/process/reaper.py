"""Reaps orphans: process 1 of a container becomes the parent of processes whose parent ended.

The embedded store's helpers become orphans if one of them is killed. No other process waits for
them, and zombies would pile up.
"""

import asyncio
import os
from contextlib import suppress

_SECONDS = 1.0


async def reap_forever() -> None:
    """Reap ended children that no task waits for. Ends by cancellation.

    asyncio reaps its own children within milliseconds; one that is still there a second later is an
    orphan.
    """
    seen = 0
    while True:
        await asyncio.sleep(_SECONDS)
        if (pid := _ended_child()) == seen:
            _reap(pid)
            pid = _ended_child()
        seen = pid


def _ended_child() -> int:
    """Return the process id of a child that has ended and was not reaped, or 0."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there are no children
        return 0
    return found.si_pid if found else 0


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # asyncio was quicker
        if pid:
            os.waitpid(pid, os.WNOHANG)
