"""Throughput of the service, compared with a ceiling, a naive implementation and its peers.

    python -m benchmarks.bench [--rounds 7] [--seconds 2] [--soak MILLIONS]

Prints the tables and writes all measurements to build/bench.json. No round starts after --minutes;
--soak comes on top.
"""

import argparse
import statistics
import time
from contextlib import ExitStack

from benchmarks import report
from benchmarks.contest import (
    CEILING,
    CREATE,
    DELETE,
    GET,
    HEARTBEAT,
    OPERATIONS,
    SERVICE,
    Contest,
)
from benchmarks.load import NO_WRK, WRK
from benchmarks.peers import find_peers
from benchmarks.probes import StoreTrip, compare_workers, soak, time_start
from benchmarks.processes import ROOT, end_on_sigterm, store
from benchmarks.report import Row, say


def main() -> None:
    options = _options()
    end_on_sigterm()
    give_up = time.monotonic() + options.minutes * 60
    notes: list[str] = [] if WRK else [NO_WRK]
    say("making the peers ready, under build/")
    peers, missing = find_peers()
    notes += missing

    with ExitStack() as stack:
        store_url = stack.enter_context(store())
        say(f"creating {options.sessions:,} sessions")
        contest = Contest(stack, store_url, peers, options.sessions)
        say("warming up")
        contest.round(0, 1)
        contest.results.clear()
        trip = StoreTrip(contest, store_url)
        trips: list[float] = []
        memory = [(contest.served, contest.service.resident_mib)]
        for number in range(options.rounds):
            if number and time.monotonic() > give_up:
                notes.append(f"ended after {number} rounds: {options.minutes} minutes are over")
                break
            contest.round(number, options.seconds)
            contest.run(SERVICE, GET, options.seconds, connections=256)
            contest.run(CEILING, GET, options.seconds, connections=1)
            contest.run(SERVICE, GET, options.seconds, connections=1)
            trips.append(trip.microseconds())
            memory.append((contest.served, contest.service.resident_mib))
            say(f"round {number + 1} of {options.rounds}: {_shares(contest)}")
        rates = {key: list(runs) for key, runs in contest.results.items()}
        memory += soak(contest, options.soak)
        workers = compare_workers(store_url, contest.ids, len(trips), options.seconds)
        if not workers:
            notes.append("two workers against one: skipped, the service knows no WEB_CONCURRENCY")
        say("starting the service a few times")
        starts = [time_start(store_url) for _ in range(7)]
        versions = report.versions(contest.redis)

    contest.results.update(rates)  # without the requests of the soak
    notes += [
        f"{server}, {operation}, {connections} connections: {errors} errors"
        for (server, operation, connections), runs in contest.results.items()
        if (errors := sum(run.errors for run in runs))
    ]
    rows = _rows(contest, trips)
    if workers:
        one, two = ([run.rate for run in workers[count]] for count in ("1", "2"))
        rows.append(Row.ratio("two worker processes against one", (1.3, 1.5), "{:.2f}x", two, one))
    rows.append(Row.median("start to first answer", (0.8, 0.4), "{:.2f} s", starts, less=True))

    print(f"\n{report.machine()}\n\n{versions}")
    for peer in peers:
        print(f"{peer.name}: {peer.versions}")
    report.print_rows([*rows, *report.saved_rows("bench-scale")])
    _print_details(contest, trips, memory)
    for note in notes:
        print(f"\nNote: {note}.")
    file = report.save(
        "bench",
        {
            "machine": report.machine(),
            "versions": versions,
            "peers": {peer.name: peer.versions for peer in peers},
            "options": vars(options),
            "notes": notes,
            "rows": rows,
            "memory_mib_after_requests": memory,
            "store_round_trip_us": trips,
            "start_seconds": starts,
            "workers": workers,
            "measurements": [
                {"server": server, "operation": operation, "connections": connections, "runs": runs}
                for (server, operation, connections), runs in contest.results.items()
            ],
        },
    )
    print(f"\nAll measurements: {file.relative_to(ROOT)}")


def _rows(contest: Contest, trips: list[float]) -> list[Row]:
    rows = []
    for operation, bounds in (
        (DELETE, (0.75, 0.90)),
        (GET, (0.75, 0.90)),
        (HEARTBEAT, (0.65, 0.75)),
        (CREATE, (0.50, 0.60)),
    ):
        ours, ceiling = contest.rates(SERVICE, operation), contest.rates(CEILING, operation)
        what = f"`{operation.name}`, share of the ceiling"
        rows.append(Row.ratio(what, bounds, "{:.2f}", ours, ceiling))
    for name, operation, bounds in (
        ("FastAPI", DELETE, (4.5, 6)),
        ("Express", DELETE, (2, 2.5)),
        ("Fastify", GET, (0.8, 1)),
    ):
        if name in contest.servers:
            ours, theirs = contest.rates(SERVICE, operation), contest.rates(name, operation)
            what = f"`{operation.name}` against {name}"
            rows.append(Row.ratio(what, bounds, "{:.2f}x", ours, theirs))
    for operation in (DELETE, GET):
        runs = contest.results[SERVICE, operation.name, 64]
        what = f"`{operation.name}`, p99 at 64 connections over p50"
        p99s, p50s = [run.p99 for run in runs], [run.p50 for run in runs]
        rows.append(Row.ratio(what, (3, 2), "{:.2f}x", p99s, p50s, less=True))
    many, some = contest.rates(SERVICE, GET, 256), contest.rates(SERVICE, GET)
    rows.append(Row.ratio("`GET`, 256 connections against 64", (0.9, 1), "{:.2f}", many, some))
    added = [
        ours.p50 - ceiling.p50 - trip
        for ours, ceiling, trip in zip(
            contest.results[SERVICE, GET.name, 1],
            contest.results[CEILING, GET.name, 1],
            trips,
            strict=True,
        )
    ]
    what = "`GET` alone, added to the ceiling and the store's round trip"
    rows.append(Row.median(what, (60, 30), "{:.0f} µs", added, less=True))
    return rows


def _print_details(contest: Contest, trips: list[float], memory: list[tuple[int, float]]) -> None:
    rates, times = [], []
    for name, servers in contest.servers.items():
        cells = []
        for operation in OPERATIONS:
            if operation not in servers:
                cells.append("")
                continue
            each = contest.rates(name, operation)
            median = statistics.median(each)
            share = median / statistics.median(contest.rates(CEILING, operation))
            cells.append(f"{median:,.0f} ({min(each):,.0f} to {max(each):,.0f}), {share:.2f}")
        rates.append((name, *cells))
    for (name, operation_name, connections), runs in contest.results.items():
        p50, p99 = (statistics.median(getattr(run, p) for run in runs) for p in ("p50", "p99"))
        if name in (CEILING, SERVICE):
            times.append((name, operation_name, connections, f"{p50:,.0f}", f"{p99:,.0f}"))
    times.append(("the store alone", "GET", 1, f"{statistics.median(trips):,.0f}", ""))
    print("\nRequests a second: median (min to max), share of the ceiling")
    report.print_table(("", *(operation.name for operation in OPERATIONS)), rates)
    print("\nTimes in µs")
    report.print_table(("", "operation", "connections", "p50", "p99"), sorted(times, key=str))
    print("\nMemory of the service process")
    report.print_table(
        ("after requests", "resident, MiB"), [(f"{n:,}", f"{mib:.1f}") for n, mib in memory]
    )


def _shares(contest: Contest) -> str:
    """Return the last round in one line."""
    parts = []
    for operation in OPERATIONS:
        ours, ceiling = (contest.rates(n, operation)[-1] for n in (SERVICE, CEILING))
        parts.append(f"{operation.name} {ours:,.0f}/s = {ours / ceiling:.2f}")
    return ", ".join(parts)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="of each run of the load")
    parser.add_argument("--sessions", type=int, default=250_000, help="in the store at the start")
    parser.add_argument("--minutes", type=float, default=9, help="after which no round starts")
    parser.add_argument(
        "--soak", type=float, default=0, metavar="MILLIONS", help="of requests, for the memory"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
