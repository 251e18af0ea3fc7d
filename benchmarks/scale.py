"""Scaling: the store's memory and time per session at 1,000,000, and how both grow from 1,000.

    python -m benchmarks.scale [--sessions 1000000] [--redis-sessions 1000000] [--samples 2000]
                               [--also 10000 100000]

Valkey of the wheel, and Redis if ``redis-server`` is on the PATH. Everything that is compared is
measured in turn, in one run. ``--also`` names further sizes at which times in the store are
measured. Prints the tables and writes them to build/bench-scale.json, which ``benchmarks.bench``
includes in its own report.
"""

import argparse
import statistics
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import report, storetime
from benchmarks.population import CONVERSATION, Conversation, Memory, Population, servers
from benchmarks.processes import LOAD_CORE, ROOT, end_on_sigterm, on
from benchmarks.report import Bounds, Row, say
from benchmarks.requests import LONG, OPERATIONS, Requester
from benchmarks.storetime import StoreTime

FEW = 1000
ROUNDS = 7
CONVERSATIONS = 20_000

_GROWTH: dict[str, Bounds] = {"health": (1.1, 1.05), "first list page": (1.1, 1.05)}
_OTHER_GROWTH: Bounds = (1.2, 1.05)
_SESSION_BYTES: dict[str, Bounds] = {"Valkey": (700, 620), "Redis": (860, 800)}
_CONVERSATION_BYTES: dict[int, Bounds] = {1: (700, 450), 10: (3300, 3000), 20: (6500, 6000)}
_MICROS: dict[str, Bounds] = {
    "heartbeat": (11, 9),
    "create": (20, 17),
    "end": (23, 19),
    "health": (300, 300),
}

Times = dict[str, dict[int, list[float]]]  # seconds by operation and number of sessions
StoreTimes = dict[str, dict[str, list[StoreTime]]]  # by server and operation, one for each round


def main() -> None:
    options = _options()
    end_on_sigterm()
    programs = servers()
    counts = {"Valkey": options.sessions, "Redis": options.redis_sessions or options.sessions}
    conversations = {name: _converse(name, program) for name, program in programs.items()}
    with ExitStack() as stack:
        many = {}
        for name, program in programs.items():
            say(f"creating {counts[name]:,} sessions on {name}")
            many[name] = Population(stack, counts[name], program)
        names = {name: each.server for name, each in many.items()}
        few = Population(stack, FEW, programs["Valkey"])
        sizes = {
            f"{name}, {count:,} sessions": Population(stack, count, program)
            for count in options.also
            for name, program in programs.items()
        }
        say("measuring the memory")
        memory = {name: population.memory() for name, population in many.items()}
        for name in programs:
            _print_memory(names[name], memory[name], conversations[name])
        say("measuring the times of requests")
        for name, each in {**many, **sizes}.items():
            if name != "Valkey":
                each.service.rest()
        times = _time_requests(few, many["Valkey"], options.samples)
        few.service.rest()
        say("measuring the times in the store")
        in_store = _time_store({**many, **sizes}, options.samples)
        few.service.wake()
        versions = report.versions(few.redis)

    rows = [*_growth_rows(times, options.sessions), *_memory_rows(many, conversations)]
    rows += _store_rows(in_store, {**many, **sizes})
    print(f"\n{report.machine()}\n\n{versions}; {', '.join(names.values())}")
    if "Redis" not in programs:
        print("\nredis-server is not on the PATH: there are no figures of Redis")
    report.print_rows(rows)
    _print_times(times)
    _print_store_times(in_store)
    file = report.save(
        "bench-scale",
        {
            "machine": report.machine(),
            "versions": [versions, *names.values()],
            "options": vars(options),
            "rows": rows,
            "seconds": times,
            "store": in_store,
            "memory": memory,
            "conversations": conversations,
        },
    )
    print(f"\nAll measurements: {file.relative_to(ROOT)}")


def _converse(name: str, program: str) -> list[Conversation]:
    say(f"sending {CONVERSATION[-1]} messages to {CONVERSATIONS:,} sessions on {name}")
    with ExitStack() as stack:
        return list(Population(stack, CONVERSATIONS, program).converse())


def _time_requests(few: Population, many: Population, samples: int) -> Times:
    """Time each operation on both in turn; return the medians of the rounds."""
    times: Times = {o: {FEW: [], many.count: []} for o in OPERATIONS}
    with on(LOAD_CORE), Requester(few) as on_few, Requester(many) as on_many:
        for number in range(-1, ROUNDS):
            for operation in OPERATIONS:
                count = samples // ROUNDS // (4 if operation in LONG else 1)
                pairs = [(on_few.time(operation), on_many.time(operation)) for _ in range(count)]
                if number >= 0:  # round -1 is the warm-up
                    for population, each in zip((few, many), zip(*pairs, strict=True), strict=True):
                        times[operation][population.count].append(statistics.median(each))
    return times


def _time_store(populations: dict[str, Population], samples: int) -> StoreTimes:
    """Measure the store time of each operation, on one server after the other in each round."""
    times: StoreTimes = {name: {} for name in populations}
    for each in populations.values():
        each.service.rest()
    for number in range(-1, ROUNDS):
        for name, population in populations.items():
            with population.service.awake():
                measured = storetime.measure(population, 2 * samples)
            if number >= 0:
                for operation, one in measured.items():
                    times[name].setdefault(operation, []).append(one)
    for each in populations.values():
        each.service.wake()
    return times


def _growth_rows(times: Times, count: int) -> Iterator[Row]:
    for operation in OPERATIONS:
        yield Row.ratio(
            f"{operation} at {count:,} sessions against {FEW:,}",
            _GROWTH.get(operation, _OTHER_GROWTH),
            "{:.2f}x",
            times[operation][count],
            times[operation][FEW],
            less=True,
        )


def _memory_rows(
    many: dict[str, Population], conversations: dict[str, list[Conversation]]
) -> Iterator[Row]:
    form = "{:,.0f} bytes"
    for name, population in many.items():
        what = f"memory of {population.server} per session, at {population.count:,}"
        bounds = _SESSION_BYTES[name]
        yield Row.median(what, bounds, form, [population.bytes_a_session], less=True)
        for each in conversations[name]:
            messages = "1 message" if each.messages == 1 else f"{each.messages} messages"
            what = f"… plus a conversation of {messages}"
            bounds = _CONVERSATION_BYTES[each.messages]
            yield Row.median(what, bounds, form, [each.added], less=True)


def _store_rows(in_store: StoreTimes, many: dict[str, Population]) -> Iterator[Row]:
    for name, by_operation in in_store.items():
        population = many[name]
        for operation in storetime.OPERATIONS:
            rounds = by_operation[operation]
            what = f"time of {population.server} for {operation}, at {population.count:,} sessions"
            micros = [each.micros for each in rounds]
            yield Row.median(what, _MICROS[operation], "{:,.1f} µs", micros, less=True)


def _print_times(times: Times) -> None:
    counts = next(iter(times.values()))
    print("\nTimes over one connection in µs, median")
    report.print_table(
        ("", *(f"{count:,} sessions" for count in counts)),
        (
            (operation, *(f"{statistics.median(each) * 1e6:,.0f}" for each in by_count.values()))
            for operation, by_count in times.items()
        ),
    )


def _print_store_times(in_store: StoreTimes) -> None:
    print(
        "\nTimes in the store in µs: of the middle half of the calls, and of all with disturbances"
    )
    report.print_table(
        ("", *(f"{name}, {what}" for name in in_store for what in ("middle", "mean", "events"))),
        (
            (
                operation,
                *(
                    f"{statistics.median(getattr(each, what) for each in rounds[operation]):.2f}"
                    for rounds in in_store.values()
                    for what in ("micros", "mean", "events")
                ),
            )
            for operation in (*storetime.OPERATIONS, storetime.SWEEP)
        ),
    )


def _print_memory(server: str, memory: list[Memory], conversations: list[Conversation]) -> None:
    print(f"\nMemory of {server} by kind of key")
    report.print_table(
        ("", "keys", "bytes per session"),
        ((part.kind, f"{part.keys:,}", f"{part.bytes_a_session:,.0f}") for part in memory),
    )
    print(f"\nMemory of {server} that messages add, in bytes per session")
    report.print_table(
        ("messages", "conversation", "their events in the outbox, which is bounded"),
        ((each.messages, f"{each.added:,.0f}", f"{each.outbox:,.0f}") for each in conversations),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--redis-sessions", type=int, help="on Redis; default: as on Valkey")
    parser.add_argument(
        "--also", type=int, nargs="+", default=[], help="further sizes, for the times in the store"
    )
    parser.add_argument("--samples", type=int, default=2000, help="of an operation on each side")
    return parser.parse_args()


if __name__ == "__main__":
    main()
