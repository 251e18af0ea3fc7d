"""Floods: clients that cost the service as much as they can, and their effect on other clients.

A flood runs in a process of its own (flooders.py) while probes are sent on new connections, the
``healthcheck`` command runs, and a few well-behaved clients work as always. Pauses, floods of
another node and floods of this node alternate. The other clients' p99 may double: a flood of the
other node shows how much of that is due to the machine, whose cores all processes share.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from chaos.fleet import fleet
from chaos.flooders import CONNECTIONS
from chaos.http import Connection, NotSent, Unanswered, request
from chaos.stores.base import single_server
from chaos.trials import Row, now
from tests.support.api import SESSIONS
from tests.support.factories import session_body
from tests.support.processes import ROOT, ServiceProcess, environment

_CLIENTS = 4  # well-behaved ones, each on a connection of its own
_PAUSE = 0.02  # seconds between two requests of a client, on average
_LARGE = [{"type": "file", "url": "x" * 6000}] * 10
MEMORY_MB = 60  # that forty clients that do not read may cost
_NOISE_MS = 5  # a p99 below this is due to the machine, not the service
_TIMEOUT = 10.0  # seconds for a response

_FAULTS = {
    "unread": "40 clients never read a page of large messages, and come again when they are cut",
    "half-bodies": "2,500 half-sent bodies, sent again when they are cut",
    "handshakes": "10,000 polling handshakes on one connection",
    "bombs": "50 bodies of 204 KB that are 200 MiB decompressed, every second",
    "idle": f"{CONNECTIONS:,} idle connections in a table of {CONNECTIONS // 2:,}",
    "half-heads": f"{CONNECTIONS:,} half-sent heads in a table of {CONNECTIONS // 2:,}",
    "streams": f"{CONNECTIONS:,} streams in a table of {CONNECTIONS // 2:,}",
}
_FILLS_TABLE = {"idle", "half-heads", "streams"}


class Onlookers:
    """Well-behaved clients, probes and ``healthcheck``: their responses and latencies."""

    def __init__(self, node: ServiceProcess, other_node: ServiceProcess, folder: Path) -> None:
        self._node = node
        self._other_node = other_node
        self._folder = folder
        self._ids: list[str] = []
        self._is_over = False
        self.latencies: dict[str, list[float]] = {"none": [], "other": [], "own": []}  # seconds
        self.statuses: Counter[str] = Counter()
        self.probes = 0
        self.checks = 0
        self._flooded = "none"  # a key of latencies
        self.memory = 0.0  # MB, the maximum during a flood
        self.log_lines = 0
        self._page = ""
        self.problems: list[str] = []

    async def prepare(self) -> None:
        """Create sessions, one of them with a page of large messages."""
        connection = await Connection.to(self._node.port)
        for n in range(20):
            body = session_body()
            response = await connection.fetch(request("POST", SESSIONS, f"setup-{n}", body))
            self._ids.append(response.body["sessionId"])
        path = f"{SESSIONS}/{self._ids[0]}/messages"
        for _ in range(40):
            message = {"content": "x", "attachments": _LARGE}
            assert (await connection.fetch(request("POST", path, "setup", message))).status == 201
        connection.close()
        self._page = f"{path}?limit=100"

    async def watch(self) -> None:
        """Work until ``stop``."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_CLIENTS):
                group.create_task(self._work())
            group.create_task(self._probe())
            group.create_task(self._check_health())
            group.create_task(self._measure())

    def stop(self) -> None:
        self._is_over = True

    def memory_now(self) -> float:
        """Return the resident memory of the node in MB."""
        pages = int(Path(f"/proc/{self._node.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def flood(self, kind: str, seconds: float) -> Counter[str]:
        """Flood the node; return the counts of the flood."""
        self.memory = 0.0
        self._flooded = "own"
        seen = await _flood(kind, self._node.port, seconds, self._page)
        self._flooded = "none"
        return seen

    async def flood_other(self, kind: str, seconds: float) -> None:
        """Flood the other node."""
        self._flooded = "other"
        await _flood(kind, self._other_node.port, seconds, self._page)
        self._flooded = "none"

    async def _work(self) -> None:
        connection: Connection | None = None
        while not self._is_over:
            await asyncio.sleep(random.uniform(0, 2 * _PAUSE))
            path = f"{SESSIONS}/{random.choice(self._ids[1:])}"
            method, path = random.choice(
                (("GET", path), ("POST", f"{path}/heartbeat"), ("GET", f"{path}/messages"))
            )
            started, flooded = now(), self._flooded
            try:
                if connection is None or not connection.is_open:
                    connection = await Connection.to(self._node.port)
                async with asyncio.timeout(_TIMEOUT):
                    response = await connection.fetch(request(method, path, "other"))
            except (NotSent, Unanswered, TimeoutError) as error:
                self.statuses[type(error).__name__] += 1
                self.problems.append(f"{method} {path}: {type(error).__name__}")
                connection = None
                continue
            self.statuses[str(response.status)] += 1
            if response.status == 200:
                self.latencies[flooded].append(now() - started)
            else:
                self.problems.append(
                    f"{method} {path}: {response.status} {response.content[:100]!r}"
                )
        if connection is not None:
            connection.close()

    async def _probe(self) -> None:
        while not self._is_over:
            for path in ("/healthz", "/readyz"):
                try:
                    async with asyncio.timeout(_TIMEOUT):
                        connection = await Connection.to(self._node.port)
                        status = (await connection.fetch(request("GET", path, "probe"))).status
                    connection.close()
                except (NotSent, Unanswered, TimeoutError) as error:
                    self.problems.append(f"{path}: {type(error).__name__}")
                else:
                    self.probes += 1
                    if status != 200:
                        self.problems.append(f"{path}: {status}")
            await asyncio.sleep(0.05)

    async def _check_health(self) -> None:
        """Run the ``healthcheck`` command every two seconds, as an orchestrator does."""
        variables = {**environment(self._folder), "PORT": str(self._node.port)}
        while not self._is_over:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "session_service", "healthcheck"),
                env=variables,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            _, stderr = await process.communicate()
            self.checks += 1
            if process.returncode != 0:
                self.problems.append(f"healthcheck: {process.returncode} {stderr.decode()[:200]}")
            await asyncio.sleep(2)

    async def _measure(self) -> None:
        while not self._is_over:
            self.memory = max(self.memory, self.memory_now())
            await asyncio.sleep(0.05)


@asynccontextmanager
async def onlookers(max_connections: int) -> AsyncIterator[Onlookers]:
    """Run two nodes, with onlookers of the first."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        async with (
            single_server(folder) as store,
            fleet(folder, store.url, 2, SESSION_MAX_CONNECTIONS=str(max_connections)) as nodes,
        ):
            node, other_node = nodes.nodes
            watchers = Onlookers(node, other_node, folder)
            await watchers.prepare()
            watching = asyncio.create_task(watchers.watch())
            yield watchers
            watchers.stop()
            await watching
            watchers.problems += nodes.defects()
            watchers.log_lines = len(node.stderr.splitlines())


async def flooded(rounds: int, kind: str, seconds: float = 12.0) -> Row:
    """In each round pause, flood another node, and flood this one, each for ``seconds``."""
    seen: Counter[str] = Counter()
    took = 0.0
    async with onlookers(CONNECTIONS // 2 if kind in _FILLS_TABLE else 10_000) as others:
        for _ in range(rounds):
            await asyncio.sleep(seconds)
            await others.flood_other(kind, seconds)
            memory = others.memory_now()
            seen += await others.flood(kind, seconds)
            took = max(took, others.memory - memory)
    problems = others.problems
    if kind == "unread" and took > MEMORY_MB:
        problems.append(f"the service took {took:.0f} MB more")
    if others.log_lines > 3 * rounds * seconds + 50:
        problems.append(f"{others.log_lines:,} log lines")
    calm, other, own = (1000 * _p99(others.latencies[each]) for each in ("none", "other", "own"))
    late = [f"p99 {own:.1f} ms"] if own > max(2 * calm, 2 * other, _NOISE_MS) else []
    return Row(
        _FAULTS[kind],
        rounds,
        f"flood: {_format(seen)}; others: {_format(others.statuses)}, p99 {own:.1f} ms,"
        f" without it {calm:.1f} ms, with it on another node {other:.1f} ms;"
        f" {others.probes:,} probes and {others.checks} health checks; memory {took:+.0f} MB;"
        f" {len(problems)} problems",
        "probes and `healthcheck` succeed throughout; others are answered, p99 at most doubles"
        + (f"; memory +{MEMORY_MB} MB at most" if kind == "unread" else ""),
        problems,
        {"p99_ms": {"calm": calm, "other": other, "flooded": own}, "memory_mb": took},
        late,
    )


async def _flood(kind: str, port: int, seconds: float, path: str) -> Counter[str]:
    """Run a flood to its end; return its counts."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaos.flooders"),
        *(kind, str(port), str(seconds), path),
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds + 20):
            stdout, _ = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    return Counter(json.loads(stdout))


def _format(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} × {name}" for name, count in sorted(counts.items()))


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] if values else 0.0
