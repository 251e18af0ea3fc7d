"""The program on a terminal: a pseudo terminal, of 80 columns and 24 lines by default."""

import asyncio
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.processes import environment
from tests.support.waiting import wait_until

_CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>78]")


class Terminal:
    """A command on a terminal, which ends with the ``async with`` block."""

    def __init__(
        self, folder: Path, *command: str, columns: int = 80, lines: int = 24, **settings: str
    ) -> None:
        self._master, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._lines = lines
        self._terminal = terminal
        program = (sys.executable, "-m", "session_service", *command)
        self._process = subprocess.Popen(
            # The terminal that the leader of a session opens is its controlling one: Ctrl-C works.
            ["sh", "-c", 'exec "$@" <"$0"', os.ttyname(terminal), *program],
            env=environment(folder, TERM="xterm-256color", **settings),
            cwd=folder,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        self.output = ""

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)
        os.close(self._terminal)

    def _read(self) -> None:
        self.output += os.read(self._master, 65_536).decode(errors="replace")

    @property
    def lines(self) -> Sequence[str]:
        """All lines so far, without control codes."""
        return _CODES.sub("", self.output).replace("\r", "").split("\n")

    @property
    def screen(self) -> list[str]:
        """The lines of the last whole screen that was drawn from the home of the cursor."""
        for drawn in reversed(self.output.split("\x1b[H")[1:]):
            lines = _CODES.sub("", drawn).replace("\r", "").split("\n")
            if len(lines) >= self._lines:
                return lines
        return []

    def type(self, keys: str) -> None:
        """Type, e.g. ``\\x03`` for Ctrl-C."""
        os.write(self._master, keys.encode())

    async def wait(self) -> int:
        """Wait for the end of the command; return its exit code."""
        code: int = await asyncio.to_thread(self._process.wait, 30)
        await wait_until(lambda: not self._has_more(), description="all output is read")
        return code

    def _has_more(self) -> bool:
        waiting = struct.unpack("i", fcntl.ioctl(self._master, termios.FIONREAD, b"\0" * 4))[0]
        return bool(waiting)
