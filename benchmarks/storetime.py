"""The time that scripts take in the store, by its own statistics."""

import random
import time
from collections.abc import Callable
from typing import NamedTuple

from redis import Redis

from benchmarks.load import ONE, SESSIONS, create_sessions, send_all
from benchmarks.population import Population
from benchmarks.processes import SERVER_CORE

OPERATIONS = ("heartbeat", "create", "end", "health")
SWEEP = "the sweep, per second"  # health has the sizes that it reads

_IDLE_SECONDS = 1.0
_HEALTH_SHARE = 20  # health reads all shards, so it is sampled less often


class StoreTime(NamedTuple):
    """What an operation takes in the store, without the work of the sweeper meanwhile."""

    micros: float
    events: float  # appended to the outbox, per operation


class _Totals(NamedTuple):
    """What the store has done so far, or between two moments."""

    seconds: float
    micros: float  # of scripts with all commands that they call, and of PING, which health sends
    events: float

    @classmethod
    def read(cls, redis: Redis) -> "_Totals":
        stats = redis.info("commandstats")
        scripts, pings, appends = (
            stats.get(f"cmdstat_{name}", {"usec": 0, "calls": 0})
            for name in ("evalsha", "ping", "xadd")
        )
        return cls(time.perf_counter(), scripts["usec"] + pings["usec"], appends["calls"])

    def since(self, earlier: "_Totals") -> "_Totals":
        return _Totals(*(now - then for now, then in zip(self, earlier, strict=True)))


def measure(population: Population, count: int) -> dict[str, StoreTime]:
    """Do each operation ``count`` times, 64 at once; return the time of one.

    The store has a core of its own meanwhile, so that no other process is counted as its time. The
    sessions have had a heartbeat shortly before, so that most heartbeats are no event
    (docs/events.md); creating and ending others in between takes them out of the caches.
    """
    port = population.port
    places = random.sample(range(population.count), 2 * min(count, population.count // 2))
    beating, ending = places[: len(places) // 2], places[len(places) // 2 :]

    def heartbeats() -> int:
        return _send(port, "POST", [f"{_path(population.ids[each])}/heartbeat" for each in beating])

    def end() -> int:
        return _send(port, "DELETE", [_path(population.ids[each]) for each in ending])

    def create() -> int:
        new = create_sessions(port, len(ending), cores=SERVER_CORE)
        for place, session_id in zip(ending, new, strict=True):
            population.ids[place] = session_id
        return len(new)

    def health() -> int:
        return _send(port, "GET", [f"{SESSIONS}/health"] * (count // _HEALTH_SHARE), connections=1)

    heartbeats()
    idle = _timed(population.redis, lambda: time.sleep(_IDLE_SECONDS))
    times = {SWEEP: StoreTime(idle.micros / idle.seconds, idle.events / idle.seconds)}
    for name, act in {
        "end": end,
        "create": create,
        "heartbeat": heartbeats,
        "health": health,
    }.items():
        calls = 0

        def run(act: Callable[[], int] = act) -> None:
            nonlocal calls
            calls = act()

        total = _timed(population.redis, run)
        share = total.seconds / idle.seconds
        times[name] = StoreTime(
            (total.micros - idle.micros * share) / calls,
            max(0.0, total.events - idle.events * share) / calls,
        )
    return times


def _timed(redis: Redis, act: Callable[[], None]) -> _Totals:
    before = _Totals.read(redis)
    act()
    return _Totals.read(redis).since(before)


def _send(port: int, method: str, paths: list[str], connections: int = 64) -> int:
    requests = ((method, path, "") for path in paths)
    send_all(port, requests, connections=connections, cores=SERVER_CORE)
    return len(paths)


def _path(session_id: str) -> str:
    return ONE.replace("{}", session_id)
