"""The service as a process, which is started, signalled and always reaped by its process id."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientSession, ClientTimeout

ROOT = Path(__file__).parents[2]

_SECONDS = 30.0  # bound for a start or stop, which takes far less; a busy machine is no defect


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Return an environment with these settings, and without those of the shell that runs us."""
    passed_on = ("PATH", "HOME", "TMPDIR", "LANG")
    return {
        **{name: os.environ[name] for name in passed_on if name in os.environ},
        "PYTHONPATH": str(ROOT),
        "HOST": "127.0.0.1",
        "PORT": "0",
        "SESSION_DATA_DIR": str(folder / "data"),
        **settings,
    }


def run(folder: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the service, such as ``run(folder, "healthcheck")``, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "session_service", *command],
        env=environment(folder, **settings),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


async def is_closed(port: int) -> bool:
    """Return whether a port of 127.0.0.1 refuses connections."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
    except ConnectionError:
        return True
    return False


class ServiceProcess:
    """A service on a free port, which ends with the ``with`` block.

    Its output goes to files in ``folder``, so that it never waits for a reader.
    """

    def __init__(
        self,
        folder: Path,
        *,
        program: Sequence[str] = ("session_service", "serve"),
        within: Sequence[str] = (),
        **settings: str,
    ) -> None:
        """Start it; ``within`` is a command that runs the program, such as ``["nice"]``."""
        folder.mkdir(parents=True, exist_ok=True)
        variables = environment(folder, **settings)
        self._data_dir = Path(variables["SESSION_DATA_DIR"])
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [*within, sys.executable, "-m", *program],
                env=variables,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it, by force if SIGTERM does not end it in time."""
        self._process.terminate()
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of its log, each a JSON object."""
        return [json.loads(line) for line in self.stderr.splitlines()]

    @property
    def start_line(self) -> str:
        """Wait for the line that says on which address it listens, and return it."""
        give_up = time.monotonic() + _SECONDS
        while "\n" not in self.stdout:
            assert self._process.poll() is None, f"it ended: {self.stderr}"
            assert time.monotonic() < give_up, f"it does not listen: {self.stderr}"
            time.sleep(0.01)
        return self.stdout.partition("\n")[0]

    @property
    def port(self) -> int:
        """The port on which it listens, the same for all addresses."""
        found = re.search(r"listens on http://\S+?:(\d+)[,;]", self.start_line)
        assert found, self.start_line
        return int(found[1])

    def client(self) -> ClientSession:
        """Return an HTTP client of it, whose requests time out after 30 s."""
        return ClientSession(f"http://127.0.0.1:{self.port}", timeout=ClientTimeout(total=_SECONDS))

    @property
    def store_pid(self) -> int:
        """The process id of its embedded store, from the log of the store."""
        *_, last = re.findall(
            r"^(\d+):M ", (self._data_dir / "store.log").read_text(), re.MULTILINE
        )
        return int(last)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def store_socket(self) -> str:
        """The path of its embedded store's socket, from the command line of the store."""
        command = Path(f"/proc/{self.store_pid}/cmdline").read_bytes().decode()
        found = re.search(r"unixsocket:(\S+)|(/\S*/store\.sock)", command.replace("\0", " "))
        assert found, command
        return found[1] or found[2]

    def signal(self, signum: signal.Signals) -> None:
        self._process.send_signal(signum)

    def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        return self._process.wait(_SECONDS)

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._process.kill()
        self._process.wait()


# Starts a service with settings; it ends with the test.
Start = Callable[..., ServiceProcess]
