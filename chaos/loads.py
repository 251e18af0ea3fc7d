"""Requests whose clients disconnect in the middle, and an hour of requests at a constant rate."""

import asyncio
import itertools
import os
import random
import statistics
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from signal import SIGUSR2
from typing import Any

from chaos.checker import orphans
from chaos.fleet import fleet, is_ready
from chaos.http import Connection, Unanswered, request
from chaos.stores.base import single_server
from chaos.trials import Row
from session_service.domain.ids import is_uuid
from tests.support.api import SESSIONS
from tests.support.factories import session_body
from tests.support.processes import ServiceProcess
from tests.support.waiting import wait_until

_SESSIONS = 50
_CANCELLERS = 24
_STEADY = 4
_CONNECTIONS = 50  # of the soak
_SAMPLE_SECONDS = 5.0
_SETTLED_MB = 3.0  # by which the memory of the last quarter may exceed that of the one before


class _Cancels:
    """Clients that disconnect, and some that stay and check that each response is theirs."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._left = count
        self._numbers = itertools.count(1)
        self._ids: list[str] = []
        self._renewals: Counter[str] = Counter()  # requested, by session
        self.cancelled = 0
        self.checked = 0
        self.problems: list[str] = []

    async def run(self) -> None:
        connection = await Connection.to(self._port)
        for _ in range(_SESSIONS):
            body = session_body()
            response = await connection.fetch(request("POST", SESSIONS, "setup", body))
            self._ids.append(response.body["sessionId"])
        steady = [asyncio.create_task(self._stay()) for _ in range(_STEADY)]
        await asyncio.gather(*(self._cancel() for _ in range(_CANCELLERS)))
        await asyncio.gather(*steady)
        for session_id in self._ids:
            response = await connection.fetch(request("GET", f"{SESSIONS}/{session_id}", "end"))
            if response.body["renewalCount"] > self._renewals[session_id]:
                self.problems.append(
                    f"renewed {response.body['renewalCount']} times, requested"
                    f" {self._renewals[session_id]} times"
                )
        connection.close()

    def _random_request(self) -> tuple[str, str, bytes]:
        """Return a random request: its id, the session's id, and the bytes."""
        request_id, session_id = f"r{next(self._numbers)}", random.choice(self._ids)
        path = f"{SESSIONS}/{session_id}"
        match random.randrange(4):
            case 0:
                return request_id, session_id, request("GET", path, request_id)
            case 1:
                self._renewals[session_id] += 1
                return request_id, session_id, request("POST", f"{path}/renew", request_id)
            case 2:
                self._renewals[session_id] += 1
                return request_id, session_id, request("POST", f"{path}/heartbeat", request_id)
            case _:
                body = {"timeoutMinutes": random.choice((30, 45))}
                return request_id, session_id, request("PATCH", f"{path}/timeout", request_id, body)

    async def _cancel(self) -> None:
        while self._left > 0:
            connection = await Connection.to(self._port)
            sent = []
            for _ in range(random.randrange(1, 5)):
                request_id, session_id, data = self._random_request()
                is_cut_off = random.random() < 0.1
                if is_cut_off:
                    data = data[: random.randrange(1, len(data))]
                sent.append((request_id, session_id, connection.send(data)))
                if is_cut_off:
                    break
            await asyncio.sleep(random.choice((0, 0, 0.0005, 0.001, 0.002, 0.004)))
            (connection.reset if random.random() < 0.7 else connection.close)()
            for request_id, session_id, reply in sent:
                try:
                    self._check(request_id, session_id, await reply)
                except Unanswered:
                    self._left -= 1
                    self.cancelled += 1

    async def _stay(self) -> None:
        connection = await Connection.to(self._port)
        while self._left > 0:
            request_id, session_id, data = self._random_request()
            self._check(request_id, session_id, await connection.fetch(data))
        connection.close()

    def _check(self, request_id: str, session_id: str, response: Any) -> None:
        self.checked += 1
        if response.headers.get("x-request-id") != request_id:
            self.problems.append(
                f"{request_id} got {response.headers.get('x-request-id')}'s response"
            )
        elif response.status == 200 and response.body["sessionId"] != session_id:
            self.problems.append(f"{session_id} got {response.body['sessionId']}")
        elif response.status != 200:
            self.problems.append(f"answered {response.status}: {response.content!r}")


async def cancelled(count: int) -> Row:
    """Have clients disconnect while their requests are under way."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with single_server(Path(folder)) as store, fleet(Path(folder), store.url) as nodes:
            (node,) = nodes.nodes
            sockets = _sockets(node)
            cancels = _Cancels(node.port, count)
            await cancels.run()
            problems = cancels.problems
            try:
                await wait_until(lambda: _sockets(node) <= sockets + 1, 5)
                assert await is_ready(node.port)
            except AssertionError as error:
                problems.append(f"{_sockets(node)} sockets, {sockets} before: {error}")
            problems += nodes.defects()
    return Row(
        "client disconnects during a request",
        cancels.cancelled,
        f"{cancels.checked:,} other responses checked; {len(problems)} wrong",
        "0 replies to the wrong caller, 0 leaked sockets",
        problems,
    )


class _Soak:
    """Requests at a constant rate, and the memory and time that the service takes for them."""

    def __init__(self, node: ServiceProcess, rate: float, seconds: float) -> None:
        self._node = node
        self._pause = _CONNECTIONS / rate
        self._until = time.monotonic() + seconds
        self.statuses: Counter[int] = Counter()
        self.latencies = array("d")  # seconds; an hour has millions
        self.problems: list[str] = []
        self.memory: list[float] = []  # MB, of the service's process

    async def run(self) -> None:
        sampling = asyncio.create_task(self._sample())
        await asyncio.gather(*(self._client(n) for n in range(_CONNECTIONS)))
        sampling.cancel()
        await asyncio.wait([sampling])

    async def _client(self, number: int) -> None:
        connection = await Connection.to(self._node.port)
        next_at = time.monotonic() + random.uniform(0, self._pause)
        while time.monotonic() < self._until:
            session_id = ""
            for method, path, body in _LIFE:
                request_id = f"{number}-{next_at}"
                await asyncio.sleep(next_at - time.monotonic())
                content = session_body() if body is _NEW else body
                started = time.monotonic()
                data = request(method, f"{SESSIONS}{path.format(session_id)}", request_id, content)
                response = await connection.fetch(data)
                self.latencies.append(time.monotonic() - started)
                self.statuses[response.status] += 1
                if response.headers["x-request-id"] != request_id:
                    self.problems.append("a reply to the wrong caller")
                if not 200 <= response.status < 300:
                    self.problems.append(f"{method} {path}: {response.status} {response.content!r}")
                    break
                if method == "POST" and not path:
                    session_id = response.body["sessionId"]
                next_at = max(next_at + self._pause, time.monotonic() - 1)
        connection.close()

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            self.memory.append(_memory(self._node))


_NEW: dict[str, str] = {}
_LIFE: list[tuple[str, str, Any]] = [
    ("POST", "", _NEW),
    ("POST", "/{}/messages", {"content": "Hello"}),
    ("GET", "/{}", None),
    ("POST", "/{}/heartbeat", None),
    ("POST", "/{}/messages", {"content": "Hello again"}),
    ("GET", "/{}/messages", None),
    ("POST", "/{}/renew", None),
    ("PATCH", "/{}/timeout", {"timeoutMinutes": 60}),
    ("DELETE", "/{}", None),
]


async def soaked(seconds: int, rate: float = 5000) -> Row:
    """Make requests at a constant rate; then look for leaks of tasks, sockets and keys."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with single_server(Path(folder)) as store:
            file = Path(folder) / "tasks"
            node = ServiceProcess(
                Path(folder) / "service",
                program=("chaos.counted_service",),
                REDIS_URL=store.url,
                TASKS_FILE=str(file),
            )
            with node:
                await wait_until(lambda: is_ready(node.port), 30)
                sockets, tasks = _sockets(node), await _tasks(node, file)
                soak = _Soak(node, rate, seconds)
                started = time.monotonic()
                await soak.run()
                took = time.monotonic() - started
                problems = [*soak.problems[:100]]
                await asyncio.sleep(2.5)  # two sweeps
                if (left := _sockets(node)) > sockets:
                    problems.append(f"{left} sockets, {sockets} before")
                if (left := await _tasks(node, file)) > tasks:
                    problems.append(f"{left} tasks, {tasks} before")
                problems += await orphans(store)
                keys = [key async for key in store.server.redis.scan_iter(count=1000)]
                of_sessions = sum(":msg:" in key or is_uuid(key[-36:]) is not None for key in keys)
                if of_sessions:
                    problems.append(f"{of_sessions} keys of sessions that were ended")
    requests = sum(soak.statuses.values())
    if requests / took < 0.95 * rate:
        problems.append(f"only {requests / took:,.0f} requests/s")
    growth, slope = _growth(soak.memory), _slope(soak.memory)
    if growth > _SETTLED_MB:
        problems.append(f"memory grew by {growth:.1f} MB between the last two quarters")
    latencies = sorted(soak.latencies)
    return Row(
        f"{rate:,.0f} requests/s for {seconds:,} s",
        1,
        f"{requests:,} requests, {requests / took:,.0f}/s, p99"
        f" {latencies[int(len(latencies) * 0.99)] * 1000:.1f} ms; memory"
        f" {soak.memory[-1] if soak.memory else 0:.0f} MB, {growth:+.1f} MB between the last two"
        f" quarters, slope {slope:+.1f} MB/h; {len(problems)} problems",
        "memory flat, 0 leaked tasks, sockets, keys",
        problems,
        {"memory": [round(megabytes, 2) for megabytes in soak.memory]},
    )


def _growth(memory: list[float]) -> float:
    quarter = len(memory) // 4
    if quarter == 0:
        return 0.0
    return statistics.mean(memory[-quarter:]) - statistics.mean(memory[-2 * quarter : -quarter])


def _slope(memory: list[float]) -> float:
    """Return the slope in MB an hour, over the second half."""
    half = memory[len(memory) // 2 :]
    if len(half) < 3:
        return 0.0
    line = statistics.linear_regression(range(len(half)), half)
    return line.slope * 3600 / _SAMPLE_SECONDS


def _memory(node: ServiceProcess) -> float:
    """Return the resident memory of a process in MB."""
    pages = int(Path(f"/proc/{node.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _sockets(node: ServiceProcess) -> int:
    return sum(1 for target in _open_files(node) if target.startswith("socket:"))


def _open_files(node: ServiceProcess) -> Iterator[str]:
    for fd in Path(f"/proc/{node.pid}/fd").iterdir():
        try:
            yield str(fd.readlink())
        except OSError:
            continue  # closed meanwhile


async def _tasks(node: ServiceProcess, file: Path) -> int:
    """Return the service's number of tasks: the least of five counts, as some are short-lived."""
    counts = []
    for _ in range(5):
        file.write_text("")  # noqa: ASYNC240 - it is short
        node.signal(SIGUSR2)
        counts.append(int(await wait_until(file.read_text, 5)))
        await asyncio.sleep(0.1)
    return min(counts)
