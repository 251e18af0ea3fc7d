"""The time that operations take in the store, by its own statistics."""

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from redis import Redis

from benchmarks.load import ONE, SESSIONS, create_sessions, send_all
from benchmarks.population import Population
from benchmarks.processes import SERVER_CORE

OPERATIONS = ("heartbeat", "create", "end", "health")
SWEEP = "the sweep, per second"  # health has the sizes that it reads

_IDLE_SECONDS = 1.0
_HEALTH_SHARE = 20  # a health request is sampled less often
_FASTEST = 4  # µs: no script is faster, and most commands that scripts call are

Act = Callable[[Sequence[int]], None]  # takes the places of sessions in the population


class StoreTime(NamedTuple):
    """What an operation takes in the store, in microseconds."""

    micros: float  # of the middle half of its calls
    mean: float  # of all calls, and so with the time in which other programs had the core
    events: float  # appended to the outbox


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
    """Do each operation ``count`` times, 64 at once; return its times.

    The load has the service's core, so that the store need not share its own. The sessions have had
    a heartbeat shortly before, so that most heartbeats are no event (docs/events.md); ending and
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
    sweep = idle.micros / idle.seconds
    return {
        SWEEP: StoreTime(sweep, sweep, idle.events / idle.seconds),
        "end": _measure(redis, idle, end, ending),
        "create": _measure(redis, idle, create, ending),
        "heartbeat": _measure(redis, idle, heartbeat, beating),
        "health": _measure(redis, idle, health, beating[: len(beating) // _HEALTH_SHARE]),
    }


def _measure(redis: Redis, idle: _Totals, act: Act, places: Sequence[int]) -> StoreTime:
    """Return the times of one operation, without what the store does in that time when idle."""
    redis.config_set("slowlog-max-len", 100 * len(places))
    redis.slowlog_reset()
    redis.config_set("slowlog-log-slower-than", _FASTEST)
    before = _Totals.read(redis)
    act(places)
    total = _Totals.read(redis).since(before)
    redis.config_set("slowlog-log-slower-than", -1)
    share = total.seconds / idle.seconds
    mean = max(0.0, total.micros - idle.micros * share) / len(places)
    events = max(0.0, total.events - idle.events * share) / len(places)
    calls = _calls(redis, len(places))
    return StoreTime(_middle(calls) if calls else mean, mean, events)


def _calls(redis: Redis, count: int) -> list[int]:
    """Return the microseconds of each call of the script that was called ``count`` times.

    Returns [] if none was called about so often, but several scripts or none for each operation.
    """
    by_script: dict[bytes, list[int]] = defaultdict(list)
    for entry in redis.slowlog_get(100 * count):
        words = entry["command"].split(b" ", 2)
        if words[0].upper() == b"EVALSHA":
            by_script[words[1]].append(entry["duration"])
    calls = max(by_script.values(), key=len, default=[])
    if not count / 2 < len(calls) < 1.5 * count:
        return []
    return calls + [_FASTEST] * (count - len(calls))


def _middle(values: Sequence[float]) -> float:
    """Return the mean of the middle half, which knows fractions and ignores disturbances."""
    quarter = len(values) // 4
    return statistics.fmean(sorted(values)[quarter : len(values) - quarter])


def _send(port: int, method: str, paths: Sequence[str], connections: int = 64) -> None:
    requests = ((method, path, "") for path in paths)
    send_all(port, requests, connections=connections, cores=SERVER_CORE)


def _path(session_id: str) -> str:
    return ONE.replace("{}", session_id)
