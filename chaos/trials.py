"""Cause a fault repeatedly under load, and tally what the clients observed."""

import statistics
import tempfile
import time
from asyncio import sleep
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.checker import orphans
from chaos.fleet import Fleet, fleet
from chaos.stores.base import Store
from chaos.workload import SETTINGS, Load, Workload

# Causes a fault; returns the moment (monotonic) from which the recovery time counts.
Fault = Callable[[], Awaitable[float]]
# Repairs the store after the load.
Repair = Callable[[], Awaitable[object]]


@dataclass
class Row:
    """One row of the report."""

    fault: str
    repeats: int
    seen: str
    bound: str
    problems: list[str]  # violations of the bound
    facts: dict[str, Any] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)  # too slow, which a busy machine may cause

    @property
    def holds(self) -> bool:
        return not (self.problems or self.late)


class Tally:
    """The observations of all repeats of a fault."""

    def __init__(self) -> None:
        self.repeats = 0
        self.statuses: Counter[str] = Counter()
        self.recoveries: list[float] = []
        self.lost: list[str] = []
        self.repeats_with_loss = 0
        self.acknowledged = 0
        self.problems: list[str] = []
        self.late: list[str] = []
        self.slowest = 0.0

    def row(
        self,
        fault: str,
        bound: str,
        *,
        recovery: float | None = None,
        p95: bool = False,
        may_lose: bool = False,
    ) -> Row:
        """Return the row of the report.

        ``recovery`` bounds the recovery time in seconds: its 95th percentile if ``p95``, else the
        longest.
        """
        problems, late = list(self.problems), list(self.late)
        if self.lost and not may_lose:
            problems += [f"lost: {each}" for each in self.lost]
        longest = max(self.recoveries, default=0.0)
        typical = statistics.median(self.recoveries) if self.recoveries else 0.0
        high = _p95(self.recoveries)
        if recovery is not None and (high if p95 else longest) > recovery:
            late.append(f"recovery took {high:.1f} s at p95, {longest:.1f} s at most")
        responses = ", ".join(
            f"{count:,} × {status}" for status, count in sorted(self.statuses.items())
        )
        lost = f"; {len(self.lost)} lost, in {self.repeats_with_loss} repeats"
        seen = (
            f"{responses}{lost if self.lost else '; 0 lost'}; slowest response {self.slowest:.2f} s"
        )
        if recovery is not None:
            seen += f"; recovery {typical:.2f} s median, {high:.2f} p95, {longest:.2f} max"
        facts = {
            "statuses": dict(self.statuses),
            "recoveries": [round(seconds, 3) for seconds in self.recoveries],
            "lost": self.lost[:100],
            "slowest": round(self.slowest, 3),
        }
        return Row(fault, self.repeats, seen, bound, problems, facts, late)


def _p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1) + 0.5)] if values else 0.0


class Arena:
    """A store, nodes that use it, and clients of the nodes."""

    def __init__(self, store: Store, nodes: Fleet, workload: Load) -> None:
        self.store = store
        self.nodes = nodes
        self.workload = workload

    async def repeat(
        self,
        fault: Fault,
        tally: Tally,
        repair: Repair | None = None,
        *,
        may_leave_orphans: bool = False,
    ) -> None:
        """Cause a fault under load, wait for the recovery, and audit all sessions.

        The observations go to the tally, and so does a service that does not recover.
        """
        workload = self.workload
        workload.observations.reset()
        lost_before = len(tally.lost)
        try:
            async with workload.running():
                await sleep(0.3)
                since = await fault()
                tally.recoveries.append(await workload.wait_for_recovery(since))
            if repair is not None:
                await repair()
            await workload.audit()
            if not may_leave_orphans:
                tally.problems += await orphans(self.store)
        except AssertionError as error:
            tally.problems.append(f"repeat {tally.repeats + 1}: {error}")
            workload.sessions.clear()
        observations = workload.observations
        tally.repeats += 1
        tally.statuses += observations.statuses
        tally.lost += observations.lost
        tally.repeats_with_loss += len(tally.lost) > lost_before
        tally.problems += observations.violations
        tally.late += observations.late
        tally.slowest = max(tally.slowest, observations.slowest)


@asynccontextmanager
async def arena(
    store: Store,
    nodes: int = 1,
    clients: int = 16,
    *,
    url: str = "",
    nodes_die: bool = False,
    load: Load | None = None,
    **settings: str,
) -> AsyncIterator[Arena]:
    """Run nodes on a store, with clients. ``url`` is the store's URL for the nodes, if another.

    A ``load`` takes the place of the clients.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with fleet(Path(folder), url or store.url, nodes, **SETTINGS, **settings) as service:
            workload = load or Workload(service, clients, nodes_die=nodes_die)
            try:
                yield Arena(store, service, workload)
            finally:
                await workload.close()
                if defects := service.defects():
                    raise AssertionError("\n".join(["defects in the log:", *defects[:5]]))


def now() -> float:
    return time.monotonic()
