"""Processes for a measurement, each pinned to a core, which end with their block."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from session_service.store.embedded.program import huge_pages
from tests.support.servers import store_server, valkey_binary

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "bench"  # installed peers, and measurements

_SECONDS = 30.0  # bound for a start or a stop
_LEFTOVERS = 0.1  # seconds for requests whose client has disconnected
_PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG")
_CAN_PIN = hasattr(os, "sched_setaffinity")  # Linux
_ALL = sorted(os.sched_getaffinity(0)) if _CAN_PIN else list(range(os.cpu_count() or 1))

# The measured server has one core; the load and the store share the other.
EVERYWHERE = set(_ALL)
SERVER_CORE = {_ALL[0]}
LOAD_CORE = {_ALL[-1]}


@contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Pin this process to cores for the block; processes started within stay pinned."""
    if not _CAN_PIN:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def store(program: str | None = None, *, has_huge_pages: bool = True) -> Iterator[str]:
    """Run a store server, by default that of the wheel, without persistence, on the load's core.

    The wheel's has the memory settings of the embedded store; another has its own allocator.
    """
    options = huge_pages() if has_huge_pages else []
    with on(LOAD_CORE), store_server(program or valkey_binary(), *options) as url:
        yield url


def end_on_sigterm() -> None:
    """On SIGTERM leave all blocks in order, as on Ctrl-C, to end the started processes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Server:
    """A server on a free port of 127.0.0.1, which ends with the ``with`` block.

    Its port is read from its output. Between ``rest`` and ``wake`` it is suspended, so that it does
    not disturb the measurement of another.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        cores: set[int] = SERVER_CORE,
        code: Path = ROOT,
        **environment: str,
    ) -> None:
        self.name = name
        self._output = tempfile.NamedTemporaryFile(prefix="bench-", suffix=".log")  # noqa: SIM115 - closed by stop
        with on(cores):
            self._process = subprocess.Popen(
                command,
                cwd=code,
                env=variables(environment),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group, for servers of several processes
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def output(self) -> str:
        """Its output so far."""
        return Path(self._output.name).read_text(errors="replace")

    @property
    def port(self) -> int:
        """Wait for its port, and return it."""
        give_up = time.monotonic() + _SECONDS
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", self.output)):
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{self.name} does not listen:\n{self.output[-2000:]}")
            time.sleep(0.01)
        return int(found[1])

    def rest(self) -> None:
        os.killpg(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    @contextmanager
    def awake(self) -> Iterator[int]:
        """Let it run for the block and finish pending requests; yield its port."""
        self.wake()
        try:
            yield self.port
        finally:
            time.sleep(_LEFTOVERS)
            self.rest()

    @property
    def resident_mib(self) -> float:
        """The resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0

    @property
    def cpu_seconds(self) -> float:
        """The CPU time that all its threads have used, to the nanosecond."""
        return time.clock_gettime(~self.pid << 3 | 2)  # Linux's CPU clock of another process

    def stop(self) -> None:
        """End it, by force if SIGTERM does not end it in time."""
        if self._process.poll() is None:
            self.wake()
            self._process.terminate()
            try:
                self._process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()
        self._output.close()


SERVE = ("-m", "session_service", "serve")


def service(
    store_url: str,
    *,
    name: str = "service",
    port: int = 0,
    cores: set[int] = SERVER_CORE,
    before: Sequence[str] = (),
    code: Path = ROOT,
    **settings: str,
) -> Server:
    """Start the service as shipped, from the checkout ``code``.

    ``before`` are interpreter options in front of it.
    """
    return Server(
        name,
        (sys.executable, *before, *SERVE),
        cores=cores,
        code=code,
        HOST="127.0.0.1",
        PORT=str(port),
        REDIS_URL=store_url,
        **settings,
    )


def free_port() -> int:
    """Return a port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process: these settings, and nothing else of this one's shell."""
    return {**{n: os.environ[n] for n in _PASSED_ON if n in os.environ}, **settings}
