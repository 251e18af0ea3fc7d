"""The time that scripts take in the store, by its own statistics."""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from redis import Redis

from benchmarks.load import ONE, SESSIONS, create_sessions, send_all
from benchmarks.population import Population
from benchmarks.processes import SERVER_CORE

OPERATIONS = ("heartbeat", "create", "end", "health")
SWEEP = "the sweep, per second"  # health has the sizes that it reads

_IDLE_SECONDS = 1.0
_PARTS = 10
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

    It is the median of ten parts, so that a short disturbance by other programs does not count. The
    load has the service's core, so that the store need not share its own. The sessions have had a
    heartbeat shortly before, so that most heartbeats are no event (docs/events.md); ending and
    creating others in between takes them out of the caches.
    """
    port, redis = population.port, population.redis
    places = random.sample(range(population.count), 2 * min(count, population.count // 2))
    beating, ending = places[: len(places) // 2], places[len(places) // 2 :]

    def heartbeat(places: Sequence[int]) -> None:
        _send(port, "POST", [f"{_path(population.ids[each])}/heartbeat" for each in places])

    def end(places: Sequence[int]) -> None:
        _send(port, "DELETE", [_path(population.ids[each]) for each in places])

    def create(places: Sequence[int]) -> None:
        new = create_sessions(port, len(places), cores=SERVER_CORE)
        for place, session_id in zip(places, new, strict=True):
            population.ids[place] = session_id

    def health(places: Sequence[int]) -> None:
        _send(port, "GET", [f"{SESSIONS}/health"] * len(places), connections=1)

    heartbeat(beating)
    before = _Totals.read(redis)
    time.sleep(_IDLE_SECONDS)
    idle = _Totals.read(redis).since(before)
    return {
        SWEEP: StoreTime(idle.micros / idle.seconds, idle.events / idle.seconds),
        "end": _measure(redis, idle, end, ending),
        "create": _measure(redis, idle, create, ending),
        "heartbeat": _measure(redis, idle, heartbeat, beating),
        "health": _measure(redis, idle, health, beating[: len(beating) // _HEALTH_SHARE]),
    }


def _measure(
    redis: Redis, idle: _Totals, act: Callable[[Sequence[int]], None], places: Sequence[int]
) -> StoreTime:
    """Return the time of one operation, without what the store does in that time when idle."""
    parts = []
    for number in range(_PARTS):
        part = places[number::_PARTS]
        before = _Totals.read(redis)
        act(part)
        total = _Totals.read(redis).since(before)
        share = total.seconds / idle.seconds
        parts.append(
            StoreTime(
                (total.micros - idle.micros * share) / len(part),
                (total.events - idle.events * share) / len(part),
            )
        )
    return StoreTime(
        statistics.median(part.micros for part in parts),
        statistics.fmean(part.events for part in parts),
    )


def _send(port: int, method: str, paths: Sequence[str], connections: int = 64) -> None:
    requests = ((method, path, "") for path in paths)
    send_all(port, requests, connections=connections, cores=SERVER_CORE)


def _path(session_id: str) -> str:
    return ONE.replace("{}", session_id)
