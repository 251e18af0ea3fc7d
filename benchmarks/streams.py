"""Streams: clients that follow events on one node, some of which do not read.

    python -m benchmarks.streams [--clients 5000] [--idle 500] [--rate 1000] [--seconds 30]

Each client follows a session of its own, and the sessions are renewed at a constant rate. First all
clients read; then some of them follow all events without reading, and reconnect when they are cut.
Delays are from the store's time of an event to its arrival.
"""

import argparse
import asyncio
import os
import random
import resource
import socket
import time
from contextlib import ExitStack
from typing import Any, cast
from uuid import UUID

import uvloop
from redis import Redis

from benchmarks import report
from benchmarks.load import ONE
from benchmarks.processes import LOAD_CORE, Server, end_on_sigterm, on, service, store
from benchmarks.report import say
from session_service.composition import open_store
from session_service.domain.sessions import NewSession
from session_service.domain.timeouts import TimeoutConfig
from session_service.settings import Settings

EVENTS = "/api/messaging/events"
HOUR_MS = 3_600_000
SETTLE_SECONDS = 3.0
AGENT = str(UUID(int=1, version=4))


class Phase:
    """The measurements of one of the two runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.delays: list[float] = []
        self.sent = 0
        self.cuts = 0
        self.memory: list[float] = []
        self.cpu = 0.0


class Reader(asyncio.Protocol):
    """A client that reads, and measures the delay of each event."""

    def __init__(self, phase: Phase, path: str) -> None:
        self._phase = phase
        self._path = path
        self._rest = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(f"GET {self._path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.time() * 1000
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        for frame in frames:
            if b"\nevent: session." in frame:
                self._phase.delays.append(now - int(frame[4:17]))
        if frames and not self.opened.done():
            self.opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("closed"))


async def not_read(phase: Phase, port: int) -> None:
    """Follow all events without reading; reconnect when the connection is cut."""
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while _is_open(client):  # noqa: ASYNC110 - nobody else tells
                await asyncio.sleep(0.5)
        phase.cuts += 1


def _is_open(client: socket.socket) -> bool:
    """Return whether the connection is established, without reading from it."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return info[0] == 1  # TCP_ESTABLISHED


class Run:
    """One node, its clients, and the renewals they hear of."""

    def __init__(self, options: argparse.Namespace, url: str, node: Server) -> None:
        self._options = options
        self._url = url
        self._node = node
        self._sessions: list[str] = []

    async def run(self) -> list[Phase]:
        async with open_store(Settings(redis_url=self._url, store_timeout=30)) as store:
            self._repository = store.repository
            return await self._run_phases()

    async def _run_phases(self) -> list[Phase]:
        options = self._options
        config = TimeoutConfig(HOUR_MS, True, 24 * HOUR_MS, 1000)
        for _ in range(options.clients):
            user = str(UUID(bytes=os.urandom(16), version=4))
            session = await self._repository.create(NewSession(AGENT, user, config, b"{}"))
            self._sessions.append(session.id)
        empty = Phase("no client yet")
        empty.memory.append(self._node.resident_mib)
        phases = [empty, await self._phase("all read", 0)]
        phases.append(await self._phase(f"{options.idle:,} of them do not read", options.idle))
        return phases

    async def _phase(self, name: str, idle: int) -> Phase:
        options, loop, port = self._options, asyncio.get_running_loop(), self._node.port
        phase = Phase(name)
        say(f"connecting {options.clients:,} clients")
        readers: list[Reader] = []
        for session_id in self._sessions[idle:]:
            path = ONE.replace("{}", session_id) + "/events"
            _, reader = await loop.create_connection(
                lambda path=path: Reader(phase, path), "127.0.0.1", port
            )
            readers.append(reader)
        await asyncio.gather(*(reader.opened for reader in readers))
        idlers = [asyncio.create_task(not_read(phase, port)) for _ in range(idle)]
        await asyncio.sleep(SETTLE_SECONDS)

        say(f"{options.rate:,} renewals a second for {options.seconds} s: {name}")
        phase.delays.clear()
        phase.memory.append(self._node.resident_mib)
        cpu, started = self._node.cpu_seconds, time.monotonic()
        while (since := time.monotonic() - started) < options.seconds:
            while phase.sent < since * options.rate:
                self._renewal(phase, idle)
            if int(since * 2) >= len(phase.memory):
                phase.memory.append(self._node.resident_mib)
            await asyncio.sleep(0.005)
        phase.cpu = (self._node.cpu_seconds - cpu) / (time.monotonic() - started)
        await asyncio.sleep(1)
        for idler in idlers:
            idler.cancel()
        for reader in readers:
            reader.transport.close()
        await asyncio.sleep(SETTLE_SECONDS)
        return phase

    def _renewal(self, phase: Phase, idle: int) -> None:
        """Renew the session of a client that reads."""
        session_id = self._sessions[random.randrange(idle, len(self._sessions))]
        task = asyncio.ensure_future(self._repository.renew(session_id))
        task.add_done_callback(lambda done: done.result())
        phase.sent += 1


def main() -> None:
    options = _options()
    end_on_sigterm()
    needed = options.clients + 500
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
    print(report.machine())
    with ExitStack() as stack:
        url = stack.enter_context(store())
        node = stack.enter_context(service(url))
        with on(LOAD_CORE), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            phases = runner.run(Run(options, url, node).run())
        with Redis.from_url(url) as redis:
            versions = report.versions(redis)
    print(f"\n{options.clients:,} clients on one node; {options.rate:,} events a second")
    report.print_table(
        (
            "",
            "sent",
            "arrived",
            "delay p50",
            "p99",
            "at most",
            "cut",
            "CPU",
            "memory, from, to, at most",
        ),
        (_row(phase) for phase in phases),
    )
    print(f"\n{versions}")


def _row(phase: Phase) -> tuple[Any, ...]:
    delays = sorted(phase.delays)
    memory = ", ".join(
        f"{mib:,.0f} MiB" for mib in (phase.memory[0], phase.memory[-1], max(phase.memory))
    )
    if not delays:
        return (phase.name, *("",) * 7, memory)
    return (
        phase.name,
        f"{phase.sent:,}",
        f"{len(delays):,}",
        f"{delays[len(delays) // 2]:,.0f} ms",
        f"{delays[len(delays) * 99 // 100]:,.0f} ms",
        f"{delays[-1]:,.0f} ms",
        f"{phase.cuts:,}",
        f"{phase.cpu:.0%}",
        memory,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--idle", type=int, default=500, help="of them, that do not read")
    parser.add_argument("--rate", type=int, default=1000, help="renewals a second")
    parser.add_argument("--seconds", type=int, default=30)
    return parser.parse_args()


if __name__ == "__main__":
    main()
