"""Deadlines: many sessions expire within a minute, while one of the nodes is killed.

    python -m benchmarks.deadlines [--sessions 1000000] [--seconds 60] [--nodes 2] [--no-kill]

Each session has two deadlines, its warning and its expiry, so a million sessions in a minute are
33,000 deadlines a second. Processed deadlines are counted from the outbox, by a reader of the
service that leaves the CPU to the nodes; delays are by the store's clock. Meanwhile another process
sends heartbeats for live sessions over HTTP, and measures their latency.
"""

import argparse
import asyncio
import os
import random
import signal
import statistics
import time
from array import array
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Any
from uuid import UUID

import uvloop
from aiohttp import ClientSession
from redis import Redis

from benchmarks import report
from benchmarks.load import ONE
from benchmarks.processes import SERVER_CORE, Server, end_on_sigterm, on, service, store
from benchmarks.report import say
from session_service.composition import Store, open_store
from session_service.domain.events import Event
from session_service.domain.sessions import NewSession
from session_service.domain.timeouts import TimeoutConfig
from session_service.settings import Settings
from session_service.store.events.outbox import Outbox
from session_service.store.events.reader import Reader
from session_service.store.sessions.repository import SessionRepository
from tests.support.scripts import every_script

LIVE = 2000
CREATED_PER_SECOND = 12_000  # assumed, for the schedule
WARNING_MS = 3000
NICE = 19  # of the reader, which leaves the CPU to the nodes
GRACE_SECONDS = 60.0  # after the last deadline, for a backlog
MAX_READING_SECONDS = 240.0  # after the last deadline, for a reader that does not keep up
AFTER_SECONDS = 3.0  # for events that are announced twice
HOUR_MS = 3_600_000
AGENT = str(UUID(int=1, version=4))


class Ledger:
    """The deadlines, how often each was processed, and how late."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._expires = array("q")
        self.announced = {"expiring": bytearray(), "expired": bytearray()}
        self.late = {"expiring": array("q"), "expired": array("q")}
        self.of_others = 0

    def add(self, session_id: str, expires_at: int) -> None:
        self._numbers[session_id] = len(self._expires)
        self._expires.append(expires_at)
        for announced in self.announced.values():
            announced.append(0)

    def count(self, event: Event) -> None:
        if event.type not in self.announced:
            return
        number = self._numbers.get(event.session_id)
        if number is None:
            self.of_others += 1
            return
        self.announced[event.type][number] += 1
        deadline = self._expires[number] - (WARNING_MS if event.type == "expiring" else 0)
        self.late[event.type].append(event.at - deadline)

    @property
    def is_complete(self) -> bool:
        return len(self.late["expired"]) >= len(self._expires)


class Run:
    """One store, its sessions and its nodes."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack, store_url: str) -> None:
        self._options = options
        self._stack = stack
        self._url = store_url
        self._beside = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
        self._ledger = Ledger()
        self._live: list[str] = []
        self._nodes: list[Server] = []
        self.redis = stack.enter_context(Redis.from_url(store_url))

    async def run(self) -> None:
        settings = Settings(redis_url=self._url, store_timeout=30)
        async with open_store(settings) as store:
            await self._run(store)

    async def _run(self, store: Store) -> None:
        options = self._options
        lead = 10 + WARNING_MS / 1000 + options.sessions / CREATED_PER_SECOND
        start = time.time() + lead
        say(f"creating {options.sessions:,} sessions; they run out from {lead:.0f} s on")
        await self._create(store.repository, start)
        self._start_nodes()
        if (left := start - WARNING_MS / 1000 - 1 - time.time()) < 0:
            raise RuntimeError(f"creating and starting took {-left:.0f} s too long")
        await asyncio.sleep(left)

        say(f"{options.sessions:,} run out within {options.seconds} s")
        self.redis.config_set("slowlog-log-slower-than", 1000)
        self.redis.config_set("slowlog-max-len", 100_000)
        self.redis.slowlog_reset()
        victim = None if options.no_kill else random.choice(self._nodes)
        survivors = [node for node in self._nodes if node is not victim]
        cpu = self._cpu(survivors)
        reading = asyncio.create_task(self._read(store.outbox, start))
        beating = asyncio.get_running_loop().run_in_executor(
            self._beside, keep_alive, survivors[0].port, self._live, options.seconds
        )
        os.nice(NICE)
        if victim:
            await asyncio.sleep(options.seconds * random.uniform(0.2, 0.8))
            os.kill(victim.pid, signal.SIGKILL)
            say(f"killed {victim.name}")
        await reading
        self._used = [now - before for now, before in zip(self._cpu(survivors), cpu, strict=True)]
        self._slow = self.redis.slowlog_get(100_000)
        self._beats = await beating
        self._dead = await self._dead_of_live(store.repository)

    async def _create(self, repository: SessionRepository, start: float) -> None:
        numbers = iter(range(self._options.sessions + LIVE))

        async def create_some() -> None:
            for number in numbers:
                user = str(UUID(bytes=os.urandom(16), version=4))
                is_live = number < LIVE
                until = start + random.uniform(0, self._options.seconds)
                timeout = HOUR_MS if is_live else int((until - time.time()) * 1000)
                config = TimeoutConfig(timeout, True, max(timeout, HOUR_MS), WARNING_MS)
                session = await repository.create(NewSession(AGENT, user, config, b"{}"))
                if is_live:
                    self._live.append(session.id)
                else:
                    self._ledger.add(session.id, session.expires_at)

        await asyncio.gather(*(create_some() for _ in range(256)))

    def _start_nodes(self) -> None:
        for number in range(self._options.nodes):
            node = service(
                self._url,
                name=f"node {number + 1}",
                SESSION_EVENTS_MAX_LENGTH="10000000",
            )
            self._nodes.append(self._stack.enter_context(node))
        say(f"listening: {', '.join(str(node.port) for node in self._nodes)}")

    async def _read(self, outbox: Outbox, start: float) -> None:
        reader = Reader(outbox)
        end = start + self._options.seconds
        until = end + GRACE_SECONDS
        while time.time() < until:
            batch = await reader.read()
            if batch.lost:
                raise RuntimeError("the outbox was trimmed before it was read")
            for event in batch.events:
                self._ledger.count(event)
            if batch.more:  # unread events are not missing
                until = min(max(until, time.time() + AFTER_SECONDS), end + MAX_READING_SECONDS)
                continue
            if self._ledger.is_complete:
                until = min(until, time.time() + AFTER_SECONDS)
            await asyncio.sleep(0.05)

    async def _dead_of_live(self, repository: SessionRepository) -> int:
        alive = await asyncio.gather(
            *(repository.get(each) for each in self._live), return_exceptions=True
        )
        return sum(isinstance(each, BaseException) for each in alive)

    def _cpu(self, nodes: Sequence[Server]) -> list[float]:
        """Return the CPU seconds of the store and of the nodes."""
        info = self.redis.info("cpu")
        used = info["used_cpu_sys"] + info["used_cpu_user"]
        return [used, sum(node.cpu_seconds for node in nodes)]

    def print(self) -> None:
        options, ledger = self._options, self._ledger
        count = options.sessions
        print(f"\n{options.nodes} nodes, {'none' if options.no_kill else 'one'} of them killed;")
        print(f"{count:,} sessions run out within {options.seconds} s")
        rows: list[tuple[str, ...]] = []
        for kind, announced in ledger.announced.items():
            late = sorted(ledger.late[kind])
            rows.append(
                (
                    kind,
                    f"{len(late):,}",
                    f"{announced.count(0):,}",
                    f"{sum(each > 1 for each in announced):,}",
                    f"{statistics.median(late):,.0f} ms",
                    f"{late[len(late) * 99 // 100]:,} ms",
                    f"{late[-1]:,} ms",
                )
            )
        report.print_table(
            ("", "announced", "missed", "double", "late p50", "p99", "at most"), rows
        )
        names = {each.sha: repr(each) for each in every_script()}
        slow = [
            (entry["duration"] / 1000, names[entry["command"].split()[1]])
            for entry in self._slow
            if entry["command"].startswith(b"EVALSHA")
        ]
        beats = sorted(self._beats)
        redis, nodes = self._used
        report.print_table(
            ("", ""),
            (
                ("longest script", "{:.1f} ms ({})".format(*max(slow, default=(1, "any")))),
                ("scripts of more than 10 ms", f"{sum(ms > 10 for ms, _ in slow):,}"),
                ("live sessions that were ended or warned", f"{self._dead + ledger.of_others:,}"),
                (
                    f"{len(beats):,} heartbeats meanwhile, p50, p99, at most",
                    ", ".join(
                        f"{each * 1000:.1f} ms"
                        for each in (
                            beats[len(beats) // 2],
                            beats[len(beats) * 99 // 100],
                            beats[-1],
                        )
                    ),
                ),
                ("CPU of the store", f"{redis:.1f} s"),
                ("CPU of the nodes that are left", f"{nodes:.1f} s"),
            ),
        )


def keep_alive(port: int, sessions: Sequence[str], seconds: float) -> list[float]:
    """Send heartbeats one after the other; return their latencies in seconds."""

    async def beat() -> list[float]:
        taken, until = [], time.monotonic() + seconds
        async with ClientSession(f"http://127.0.0.1:{port}") as client:
            while (started := time.monotonic()) < until:
                path = ONE.replace("{}", random.choice(sessions)) + "/heartbeat"
                async with client.post(path) as answer:
                    if answer.status != 200:
                        raise RuntimeError(f"heartbeat: {answer.status} {await answer.text()}")
                taken.append(time.monotonic() - started)
                await asyncio.sleep(0.01)
        return taken

    return asyncio.run(beat())


def main() -> None:
    options = _options()
    end_on_sigterm()
    print(report.machine())
    with on(SERVER_CORE), ExitStack() as stack:  # the store has the other core to itself
        run = Run(options, stack, stack.enter_context(store()))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run.run())
        run.print()
        print(f"\n{report.versions(run.redis)}")


def _options(arguments: Sequence[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=60, help="within which they run out")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--no-kill", action="store_true", help="let all nodes live")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
