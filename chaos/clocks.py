"""A clock of a server that can be set while it runs, by libfaketime (the package ``faketime``)."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from chaos.stores import StoreNode

_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")


def library() -> Path | None:
    """Where libfaketime is, if it is installed."""
    found = [path for pattern in _LIBRARIES for path in Path("/").glob(pattern[1:])]
    return found[0] if found else None


class SettableClock:
    """What a server takes for the time: this machine's, and an offset in a file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        self._seconds = 0.0
        self._write()

    @property
    def environment(self) -> dict[str, str]:
        """What a server is to be started with."""
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: float) -> None:
        """Have servers that start later run so far ahead of this machine, or behind it."""
        self._seconds = seconds
        self._write()

    async def step(self, node: "StoreNode", seconds: float) -> None:
        """Set the clock of a running server forward, or back; returns when it goes by that."""
        self.set(self._seconds + seconds)

        async def is_set() -> bool:
            now, _ = await node.do("TIME")
            return abs(int(now) - time.time() - self._seconds) < 1.5

        await wait_until(is_set)

    def _write(self) -> None:
        self._file.write_text(f"{self._seconds:+g}")
