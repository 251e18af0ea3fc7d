"""Scaling: time and memory at 1,000,000 sessions, compared with 1,000.

    python -m benchmarks.scale [--sessions 1000000] [--samples 2000]

Two stores, each with its service, get requests in turn over one connection each. Prints the tables
and writes them to build/bench-scale.json, which ``benchmarks.bench`` includes in its own report.
"""

import argparse
import json
import random
import statistics
from collections import defaultdict
from contextlib import ExitStack
from typing import NamedTuple

from redis import Redis

from benchmarks import report
from benchmarks.load import ONE, SESSIONS, Connection, create_sessions, new_session
from benchmarks.processes import LOAD_CORE, ROOT, end_on_sigterm, on, service, store
from benchmarks.report import Row, say

FEW = 1000
ROUNDS = 7
SHORT = ("GET", "DELETE", "heartbeat")
LONG = (
    "first list page",
    "list by user",
    "health",
)  # each reads all shards, so it is sampled less often
OPERATIONS = (*SHORT, *LONG)

_SAMPLED = 2000  # keys of each kind whose memory is measured, at most


class Memory(NamedTuple):
    """The memory of all keys of a kind."""

    kind: str
    keys: int
    bytes_a_session: float


class Population:
    """A store with sessions in it, and its service."""

    def __init__(self, stack: ExitStack, count: int) -> None:
        store_url = stack.enter_context(store())
        self.redis = stack.enter_context(Redis.from_url(store_url))
        self.count = count
        server = stack.enter_context(service(store_url, name=f"service of {count:,}"))
        empty = self._used()
        self.ids = create_sessions(server.port, count)
        self.bytes_a_session = (self._used() - empty) / count
        self._connection = stack.enter_context(Connection(server.port))
        self._users = [self._user_of(random.choice(self.ids)) for _ in range(200)]

    def time(self, operation: str) -> float:
        """Do an operation once; return the seconds. An ended session is replaced by a new one."""
        place = random.randrange(self.count)
        one = ONE.replace("{}", self.ids[place])
        method, path = {
            "GET": ("GET", one),
            "DELETE": ("DELETE", one),
            "heartbeat": ("POST", f"{one}/heartbeat"),
            "first list page": ("GET", SESSIONS),
            "list by user": ("GET", f"{SESSIONS}?userId={random.choice(self._users)}"),
            "health": ("GET", f"{SESSIONS}/health"),
        }[operation]
        _, seconds = self._connection.expect(method, path)
        if operation == "DELETE":
            body, _ = self._connection.expect("POST", SESSIONS, new_session())
            self.ids[place] = json.loads(body)["sessionId"]
        return seconds

    def memory(self) -> list[Memory]:
        """Return the memory of each kind of key; the rest are the store's own tables."""
        keys: dict[str, list[bytes]] = defaultdict(list)
        for key in self.redis.scan_iter(count=10_000):
            keys[_kind(key)].append(key)
        parts = []
        for kind, names in sorted(keys.items()):
            chosen = random.sample(names, min(len(names), _SAMPLED))
            pipe = self.redis.pipeline(transaction=False)
            for name in chosen:
                pipe.memory_usage(name, samples=0)
            used = statistics.fmean(pipe.execute()) * len(names)
            parts.append(Memory(kind, len(names), used / self.count))
        rest = self.bytes_a_session - sum(part.bytes_a_session for part in parts)
        return [*parts, Memory("all else, such as the tables of keys and of TTLs", 0, rest)]

    def _used(self) -> int:
        return int(self.redis.info("memory")["used_memory"])

    def _user_of(self, session_id: str) -> str:
        body, _ = self._connection.expect("GET", ONE.replace("{}", session_id))
        return str(json.loads(body)["userId"])


def main() -> None:
    options = _options()
    end_on_sigterm()
    with ExitStack() as stack:
        say(f"creating {options.sessions:,} and {FEW:,} sessions")
        many = Population(stack, options.sessions)
        few = Population(stack, FEW)
        say("measuring the memory")
        memory = many.memory()
        say("measuring the times")
        times = _measure(few, many, options.samples)
        versions = report.versions(many.redis)

    rows = [
        Row.ratio(
            f"{operation} at {many.count:,} sessions against {FEW:,}",
            (1.2, 1.05),
            "{:.2f}x",
            times[operation][many.count],
            times[operation][FEW],
            less=True,
        )
        for operation in OPERATIONS
    ]
    per_session = [many.bytes_a_session]
    what = f"memory of the store a session, at {many.count:,}"
    rows.append(Row.median(what, (1000, 650), "{:,.0f} bytes", per_session, less=True))

    print(f"\n{report.machine()}\n\n{versions}")
    report.print_rows(rows)
    print("\nTimes over one connection in µs, median")
    report.print_table(
        ("", f"{FEW:,} sessions", f"{many.count:,} sessions"),
        (
            (operation, *(f"{statistics.median(each) * 1e6:,.0f}" for each in by_count.values()))
            for operation, by_count in times.items()
        ),
    )
    print("\nMemory of the store by kind of key")
    report.print_table(
        ("", "keys", "bytes a session"),
        ((part.kind, f"{part.keys:,}", f"{part.bytes_a_session:,.0f}") for part in memory),
    )
    file = report.save(
        "bench-scale",
        {
            "machine": report.machine(),
            "versions": versions,
            "options": vars(options),
            "rows": rows,
            "seconds": times,
            "memory": [part._asdict() for part in memory],
        },
    )
    print(f"\nAll measurements: {file.relative_to(ROOT)}")


def _measure(few: Population, many: Population, samples: int) -> dict[str, dict[int, list[float]]]:
    """Time each operation on both in turn; return the medians of the rounds."""
    times: dict[str, dict[int, list[float]]] = {o: {FEW: [], many.count: []} for o in OPERATIONS}
    with on(LOAD_CORE):
        for number in range(-1, ROUNDS):
            for operation in OPERATIONS:
                count = samples // ROUNDS // (1 if operation in SHORT else 4)
                pairs = [(few.time(operation), many.time(operation)) for _ in range(count)]
                if number >= 0:  # round -1 is the warm-up
                    for population, each in zip((few, many), zip(*pairs, strict=True), strict=True):
                        times[operation][population.count].append(statistics.median(each))
    return times


def _kind(key: bytes) -> str:
    """Return the kind of a key: the part of its name after the shard (store/keys.py)."""
    return key.decode().partition("}:")[2].partition(":")[0]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=2000, help="of an operation on each side")
    return parser.parse_args()


if __name__ == "__main__":
    main()
