"""Measurements beside the contest that yield one figure each."""

import os
import socket
import statistics
import subprocess
import sys
import time
from urllib.parse import urlsplit

from redis import Redis

from benchmarks.contest import OPERATIONS, SERVICE, Contest
from benchmarks.load import ONE, Connection, Load, Measurement, measure
from benchmarks.processes import EVERYWHERE, ROOT, SERVER_CORE, free_port, on, service


class StoreTrip:
    """The round trip to the store of a ``GET``, without the rest of the request.

    The command is the service's own, as MONITOR shows it.
    """

    def __init__(self, contest: Contest, store_url: str) -> None:
        self._command = _overheard(contest.redis, contest)
        self._path = urlsplit(store_url).path

    def microseconds(self, times: int = 5000) -> float:
        """Return the median, from the core of the server over a plain socket."""
        taken = []
        with on(SERVER_CORE), socket.socket(socket.AF_UNIX) as plain:
            plain.connect(self._path)
            for _ in range(times):
                started = time.perf_counter()
                plain.sendall(self._command)
                plain.recv(65536)
                taken.append(time.perf_counter() - started)
        return statistics.median(taken) * 1e6


def _overheard(redis: Redis, contest: Contest) -> bytes:
    session_id = contest.ids[0]
    with (
        redis.monitor() as monitor,  # type: ignore[no-untyped-call]  # redis-py has no types for it
        contest.service.awake() as port,
        Connection(port) as connection,
    ):
        connection.expect("GET", ONE.replace("{}", session_id))
        while True:
            heard = monitor.next_command()
            if heard["client_type"] != "lua" and session_id in heard["command"]:
                break
    arguments = heard["command"].split(" ")
    return f"*{len(arguments)}\r\n".encode() + b"".join(
        f"${len(argument)}\r\n{argument}\r\n".encode() for argument in arguments
    )


def time_start(store_url: str) -> float:
    """Return the seconds from starting the process to its first response; the store runs."""
    port = free_port()
    started = time.perf_counter()
    with service(store_url, port=port):
        while time.perf_counter() < started + 30:
            try:
                with Connection(port) as connection:
                    connection.expect("GET", "/readyz")
                    return time.perf_counter() - started
            except OSError:
                time.sleep(0.001)
    raise RuntimeError("the service does not start")


def compare_workers(
    store_url: str, ids: list[str], rounds: int, seconds: int
) -> dict[str, list[Measurement]]:
    """Measure GET with one and two workers on all cores; return {} without workers."""
    results: dict[str, list[Measurement]] = {}
    if not _knows_workers():
        return results
    for _ in range(rounds):
        for count in ("1", "2"):
            with service(
                store_url, port=free_port(), cores=EVERYWHERE, WEB_CONCURRENCY=count
            ) as server:
                load = Load("GET", ONE, ids[: 30_000 * seconds])
                measure(server.port, load, seconds=1)
                results.setdefault(count, []).append(measure(server.port, load, seconds=seconds))
    return results


def _knows_workers() -> bool:
    """Return whether the service has the setting: a bad value stops its start."""
    run = subprocess.run(
        [sys.executable, "-m", "session_service", "healthcheck"],
        cwd=ROOT,
        env={**os.environ, "WEB_CONCURRENCY": "none"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return "WEB_CONCURRENCY" in run.stderr


def soak(contest: Contest, millions: float) -> list[tuple[int, float]]:
    """Serve so many more requests; return the service's memory on the way."""
    points: list[tuple[int, float]] = []
    until = contest.served + millions * 1e6
    while contest.served < until:
        for operation in OPERATIONS:
            contest.run(SERVICE, operation, seconds=4)
        points.append((contest.served, contest.service.resident_mib))
    return points
