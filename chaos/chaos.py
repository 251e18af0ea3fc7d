"""Break the store and the nodes under load, and check that the service keeps its promises.

    python -m chaos.chaos [--only NAME] [--scale X] [--soak SECONDS]

``make chaos`` runs it. Each scenario causes one fault, as often as ``docs/reliability.md`` promises
(``--scale 0.1`` for a tenth of that; all of it takes two hours), while clients check every
response, and then compares all sessions with the changes that were acknowledged. Everything runs on
loopback and is bounded in time. The report goes to build/chaos.md and all measurements to
build/chaos.json. ``make test`` runs most of them a few times.

- The faults: ``scenarios`` (nodes, one server, its connection), ``failovers`` (Sentinel, Cluster),
  ``refusals`` (evictions, denied commands), ``poison`` (damaged keys), ``followers`` (streams while
  data or clocks change), ``absence`` (consumers that are away), ``loads`` (cancelled requests, an
  hour of load), ``floods`` and ``flooders`` (clients that cost as much as they can).
- The tools: ``stores`` (servers, Sentinel groups, clusters), ``network`` and ``proxy`` (links that
  can be cut), ``fleet`` (service nodes).
- The judges: ``workload`` and ``client`` (clients that check responses), ``lives`` (back ends with
  the Python client: ``backend``, ``life``, ``kept_life``, ``following``), ``observations`` (the
  acknowledged state), ``checker`` (the keys in the store), ``trials`` (repeats and the report).
"""

import argparse
import dataclasses
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from chaos import (
    absence,
    failovers,
    flooders,
    floods,
    followers,
    loads,
    poison,
    refusals,
    scenarios,
)
from chaos.trials import Row

Scenario = Callable[[int], Coroutine[Any, Any, Row]]

BUILD = Path(__file__).parents[1] / "build"

# Scenarios by name, each with its number of repeats.
SCENARIOS: dict[str, tuple[int, Scenario]] = {
    "node-killed": (100, scenarios.node_killed),
    "python-client": (12, scenarios.python_client),
    "store-killed-always": (50, partial(scenarios.store_killed, fsync="always")),
    "store-killed-everysec": (50, partial(scenarios.store_killed, fsync="everysec")),
    **{
        f"{kind.lower()}-{how}-{ack}": (
            30,
            partial(failovers.master_lost, kind=kind, how=how, write_ack=ack),
        )
        for kind in ("Sentinel", "Cluster")
        for how in ("killed", "suspended", "isolated")
        for ack in ("none", "replica")
    },
    "sentinel-links": (30, partial(failovers.links_cut, kind="Sentinel")),
    "cluster-links": (30, partial(failovers.links_cut, kind="Cluster")),
    "cluster-failover": (30, failovers.cluster_failover),
    **{
        f"cluster-migrated-{ack}": (30, partial(failovers.cluster_slots_migrated, write_ack=ack))
        for ack in ("none", "replica")
    },
    **{
        f"proxy-{mode.replace(' ', '-')}": (20, partial(scenarios.proxied, mode=mode))
        for mode in ("delay", "reset", "half-close", "blackhole", "one byte")
    },
    "evicted": (7, refusals.evicted),
    "denied": (18, refusals.denied),
    "poisoned": (len(poison.POISONS), poison.poisoned),
    **{
        f"clock-back-{seconds}": (10, partial(followers.clock_back, seconds=seconds))
        for seconds in (2, 25, 300)
    },
    **{
        f"clock-replica-{seconds}": (10, partial(followers.replica_behind, seconds=seconds))
        for seconds in (2, 25)
    },
    "flushed": (10, followers.flushed),
    "swapped": (10, followers.swapped),
    "started-empty": (10, followers.started_empty),
    "started-old": (10, followers.started_old),
    "sigterm": (50, scenarios.node_stopped),
    "cancels": (100_000, loads.cancelled),
    **{f"flood-{kind}": (3, partial(floods.flooded, kind=kind)) for kind in flooders.KINDS},
    "away": (600, absence.away),
    "soak": (1, loads.soaked),
}


def table(rows: list[Row]) -> str:
    """Format the rows as a Markdown table."""
    lines = ["| fault | repeats | result | bound | holds |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.fault} | {row.repeats:,} | {row.seen} | {row.bound} |"
        f" {'yes' if row.holds else f'NO: {len(row.problems) + len(row.late)}'} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the chosen scenarios; return 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        default="",
        help=f"run the scenarios whose name contains this, of {', '.join(SCENARIOS)}",
    )
    parser.add_argument("--scale", type=float, default=1, help="factor for the number of repeats")
    parser.add_argument("--soak", type=int, default=3600, help="duration of the soak in seconds")
    options = parser.parse_args()
    chosen = {name: each for name, each in SCENARIOS.items() if options.only in name}
    if not chosen:
        parser.error(f"--only {options.only} matches none of {', '.join(SCENARIOS)}")
    rows = []
    for name, (repeats, scenario) in chosen.items():
        started = time.monotonic()
        count = options.soak if name == "soak" else max(1, round(repeats * options.scale))
        try:
            row = uvloop.run(scenario(count))
        except Exception as error:  # noqa: BLE001 - the other scenarios still run
            traceback.print_exc()
            row = Row(name, 0, "", "", [f"{type(error).__name__}: {error}"])
        rows.append(row)
        took = time.monotonic() - started
        print(f"{name}: {'holds' if row.holds else 'DOES NOT HOLD'}, {took:.0f} s", flush=True)
        print(f"    {row.seen}", flush=True)
        for problem in (*row.problems[:10], *row.late[:3]):
            print(f"    {problem}", flush=True)
        _write(rows)
    print(table(rows))
    return 0 if all(row.holds for row in rows) else 1


def _write(rows: list[Row]) -> None:
    BUILD.mkdir(exist_ok=True)
    (BUILD / "chaos.md").write_text(table(rows))
    facts = {
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "rows": [{**dataclasses.asdict(row), "holds": row.holds} for row in rows],
    }
    (BUILD / "chaos.json").write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    sys.exit(main())
