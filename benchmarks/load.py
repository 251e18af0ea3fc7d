"""Load by wrk, or by a generator in Python if wrk is missing, and single requests."""

import asyncio
import itertools
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, cast

import msgspec
import uvloop

from benchmarks.processes import LOAD_CORE, on

SESSIONS = "/api/messaging/sessions"
ONE = f"{SESSIONS}/{{}}"

AGENTS = [str(uuid.uuid4()) for _ in range(300)]
METADATA = {"platform": "web", "note": "x" * 71}  # 100 bytes as compact JSON

WRK = shutil.which("wrk")
NO_WRK = (
    "wrk is not on the PATH (Debian: apt install wrk). A generator in Python takes its place; it is"
    " slow itself, so that differences between servers come out smaller than they are."
)

_SCRIPT = Path(__file__).with_name("wrk.lua")
_content_length = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Load(msgspec.Struct, frozen=True):
    """Requests, one per line: a line replaces "{}" in the path, or else is the body.

    ``fields`` are more header lines of each request, by name.
    """

    method: str
    path: str
    lines: Sequence[str]
    fields: Mapping[str, str] = {}


class Measurement(msgspec.Struct, frozen=True):
    """The result of one run of the load; p50 and p99 in microseconds."""

    requests: int
    seconds: float
    p50: int
    p99: int
    errors: int  # failed connections, and responses that are not 2xx
    sent: int  # lines used

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def measure(port: int, load: Load, *, seconds: int, connections: int = 64) -> Measurement:
    """Put load on a server for some seconds."""
    if WRK is None:
        return _measure_in_python(port, load, seconds, connections)
    with tempfile.NamedTemporaryFile("w", prefix="bench-", suffix=".txt") as file:
        file.write("\n".join(load.lines))
        file.flush()
        command = [WRK, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(_SCRIPT)]
        command += [f"-H{name}: {value}" for name, value in load.fields.items()]
        command += [f"http://127.0.0.1:{port}", "--", load.method, load.path, file.name]
        with on(LOAD_CORE):
            run = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds + 60, check=True
            )
    return msgspec.json.decode(run.stdout.splitlines()[-1], type=Measurement)


def new_session() -> str:
    """Return the body of a create: a new user, one of 300 agents, 100 bytes of metadata."""
    user = uuid.UUID(bytes=os.urandom(16), version=4)
    return session_of(str(user), AGENTS[user.int % len(AGENTS)])


def session_of(user_id: str, agent_id: str) -> str:
    """Return the body of a create with 100 bytes of metadata."""
    body = {"agentId": agent_id, "userId": user_id, "metadata": METADATA}
    return json.dumps(body, separators=(",", ":"))


def create_sessions(
    port: int,
    count: int,
    *,
    body: Callable[[], str] = new_session,
    cores: set[int] = LOAD_CORE,
) -> list[str]:
    """Create sessions through the service; return their ids. ``body`` makes that of a create."""
    ids: list[str] = []

    def keep(answer: bytes) -> None:
        ids.append(answer.partition(b"\r\nLocation: ")[2].partition(b"\r\n")[0][-36:].decode())

    creates = (("POST", SESSIONS, body()) for _ in range(count))
    send_all(port, creates, cores=cores, answered=keep)
    return ids


def send_all(
    port: int,
    requests: Iterable[tuple[str, str, str]],
    *,
    connections: int = 64,
    cores: set[int] = LOAD_CORE,
    answered: Callable[[bytes], None] = lambda _: None,
) -> None:
    """Send requests (method, path, body), all of which have to succeed."""
    sent = succeeded = 0
    first_failure = b"no response"

    def count() -> Iterator[bytes]:
        nonlocal sent
        for method, path, body in requests:
            sent += 1
            yield _request(method, path, body)

    def check(answer: bytes, _: float) -> None:
        nonlocal succeeded, first_failure
        if answer.startswith(b"HTTP/1.1 2"):
            succeeded += 1
            answered(answer)
        elif first_failure == b"no response":
            first_failure = answer.partition(b"\r\n")[0] + answer.partition(b"\r\n\r\n")[2]

    _run_clients(port, count(), connections, check, cores)
    if succeeded != sent:
        problem = first_failure.decode(errors="replace")
        raise RuntimeError(f"{sent - succeeded} of {sent} requests failed: {problem}")


class Connection:
    """A blocking connection to a server, for one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, method: str, path: str, body: str = "") -> tuple[bytes, float]:
        """Send a request; return the whole response and the seconds it took."""
        request = _request(method, path, body)
        started = time.perf_counter()
        self._socket.sendall(request)
        answer = self._socket.recv(65536)
        while not _is_whole(answer):
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError(f"{method} {path} was not answered")
            answer += more
        return answer, time.perf_counter() - started

    def expect(self, method: str, path: str, body: str = "") -> tuple[bytes, float]:
        """Send a request that has to succeed; return the body of the response and the seconds."""
        answer, took = self.ask(method, path, body)
        if not answer.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(f"{method} {path}: {answer.decode(errors='replace')}")
        return answer.partition(b"\r\n\r\n")[2], took


class _Client(asyncio.Protocol):
    """A connection that sends the next request after each response, until there are no more."""

    def __init__(self, requests: Iterator[bytes], answered: Callable[[bytes, float], None]) -> None:
        self._requests = requests
        self._answered = answered
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        self._answer = b""
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
        else:
            self._started = time.perf_counter()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if _is_whole(self._answer):
            self._answered(self._answer, time.perf_counter() - self._started)
            self._next()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - what asyncio calls
        self.done.set_result(None)


def _run_clients(
    port: int,
    requests: Iterator[bytes],
    connections: int,
    answered: Callable[[bytes, float], None],
    cores: set[int] = LOAD_CORE,
) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        clients = [
            (await loop.create_connection(lambda: _Client(requests, answered), "127.0.0.1", port))[
                1
            ]
            for _ in range(connections)
        ]
        await asyncio.gather(*(client.done for client in clients))

    with on(cores), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _measure_in_python(port: int, load: Load, seconds: int, connections: int) -> Measurement:
    times: list[float] = []
    sent = refused = 0

    def requests() -> Iterator[bytes]:
        nonlocal sent
        in_path = "{}" in load.path
        for line in itertools.cycle(load.lines):
            if time.perf_counter() > started + seconds:
                return
            sent += 1
            if in_path:
                yield _request(load.method, load.path.replace("{}", line), fields=load.fields)
            else:
                yield _request(load.method, load.path, line, load.fields)

    def answered(answer: bytes, took: float) -> None:
        nonlocal refused
        times.append(took)
        refused += not answer.startswith(b"HTTP/1.1 2")

    started = time.perf_counter()
    _run_clients(port, requests(), connections, answered)
    took = time.perf_counter() - started
    percentiles = statistics.quantiles(times, n=100)
    return Measurement(
        requests=len(times),
        seconds=took,
        p50=round(percentiles[49] * 1e6),
        p99=round(percentiles[98] * 1e6),
        errors=refused + sent - len(times),
        sent=sent,
    )


def _request(
    method: str, path: str, body: str = "", fields: Mapping[str, str] | None = None
) -> bytes:
    about = "".join(f"{name}: {value}\r\n" for name, value in (fields or {}).items())
    about += "Content-Type: application/json\r\n" if body else ""
    if body or method == "POST":
        about += f"Content-Length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{about}\r\n{body}".encode()


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = _content_length.search(head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)
