"""Compare the service's CPU time per request with another commit's; fail if it grew too much.

    python -m benchmarks.against REF [--rounds 10] [--seconds 2]

Both services run at the same time, each on a store of its own, and are measured in turn, in
alternating order. The difference is taken within a round, as the machine's speed drifts. An
operation is over budget if the lower bound of the 95 % interval of its difference is above 5 % or
1.5 µs, the larger of the two.
"""

import argparse
import math
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks import report
from benchmarks.contest import CREATE, DELETE, OPERATIONS, Operation
from benchmarks.load import NO_WRK, ONE, WRK, Load, create_sessions, measure, new_session
from benchmarks.processes import ROOT, Server, end_on_sigterm, service, store
from benchmarks.report import say

BUDGET_SHARE, BUDGET_US = 0.05, 1.5
MESSAGE = Operation("message", "POST", f"{ONE}/messages", "201")
MEASURED = (*OPERATIONS, MESSAGE)

_BODY = '{"content": "' + "x" * 200 + '"}'
_SESSIONS = 20_000  # for GET, heartbeats and messages
_CREATED, _ENDED = 15_000, 50_000  # per second; no core handles more
_DELETE_SECONDS = 1  # each DELETE needs a session, and creating one takes longer


class Candidate:
    """One commit's service, suspended unless it is measured."""

    def __init__(self, stack: ExitStack, name: str, code: Path) -> None:
        store_url = stack.enter_context(store())
        self._server: Server = stack.enter_context(service(store_url, name=name, code=code))
        self._ids = create_sessions(self._server.port, _SESSIONS)
        self._server.rest()

    def measure(self, operation: Operation, seconds: int) -> float:
        """Put load on it; return the CPU time per request in microseconds."""
        seconds = min(seconds, _DELETE_SECONDS) if operation is DELETE else seconds
        with self._server.awake() as port:
            load = self._load(port, operation, seconds)
            used = self._server.cpu_seconds
            result = measure(port, load, seconds=seconds)
            used = self._server.cpu_seconds - used
        if result.errors:
            raise RuntimeError(f"{operation.name}: {result.errors} requests failed")
        return used / result.requests * 1e6

    def _load(self, port: int, operation: Operation, seconds: int) -> Load:
        if operation is CREATE:
            lines = [new_session() for _ in range(_CREATED * seconds)]
        elif operation is DELETE:
            lines = create_sessions(port, _ENDED * seconds)
        elif operation is MESSAGE:
            lines = [f"{each}\t{_BODY}" for each in random.sample(self._ids, len(self._ids))]
        else:
            lines = random.sample(self._ids, len(self._ids))
        return Load(operation.method, operation.path, lines)


class Difference(NamedTuple):
    """The difference between new and old for one operation, in µs, with its 95 % interval."""

    operation: str
    old: float  # medians
    new: float
    mean: float
    half: float  # half of the interval
    budget: float  # the allowed growth

    @classmethod
    def of(
        cls, operation: str, pairs: list[tuple[float, float]], budget: float | None = None
    ) -> "Difference":
        """Compare the pairs (old, new) of all rounds; the budget is by default that of a change."""
        differences = [new - old for old, new in pairs]
        error = statistics.stdev(differences) / math.sqrt(len(differences))
        old, new = (statistics.median(each) for each in zip(*pairs, strict=True))
        half = _t_quantile(len(differences) - 1) * error
        budget = max(BUDGET_SHARE * old, BUDGET_US) if budget is None else budget
        return cls(operation, old, new, statistics.mean(differences), half, budget)

    @property
    def is_within(self) -> bool:
        """Whether the growth is within the budget, or may be chance."""
        return self.mean - self.half <= self.budget

    def cells(self) -> tuple[str, ...]:
        low, high = self.mean - self.half, self.mean + self.half
        return (
            self.operation,
            f"{self.old:.1f}",
            f"{self.new:.1f}",
            f"{self.mean:+.1f}",
            f"{low:+.1f} to {high:+.1f}",
            f"{self.budget:+.1f}",
            "within" if self.is_within else "**over**",
        )


def main() -> int:
    options = _options()
    end_on_sigterm()
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        check_out(options.ref, folder)
        old = Candidate(stack, "old", folder)
        new = Candidate(stack, "new", ROOT)
        for number in range(-1, options.rounds):
            say(f"round {number + 1} of {options.rounds}" if number >= 0 else "warming up")
            for operation in MEASURED:
                pair = _measure_pair(
                    old, new, operation, options.seconds, old_first=number % 2 == 0
                )
                if number >= 0:
                    pairs[operation.name].append(pair)
    found = [Difference.of(name, each) for name, each in pairs.items()]
    print(
        f"\n{report.machine()}\n\nCPU time of the service per request in µs; old is {options.ref}"
    )
    head = ("", "old", "new", "difference", "95 % interval", "budget", "verdict")
    report.print_table(head, [each.cells() for each in found])
    if not WRK:
        print(f"\nNote: {NO_WRK}")
    return 0 if all(each.is_within for each in found) else 1


def _measure_pair(
    old: Candidate, new: Candidate, operation: Operation, seconds: int, *, old_first: bool
) -> tuple[float, float]:
    if old_first:
        return old.measure(operation, seconds), new.measure(operation, seconds)
    second, first = new.measure(operation, seconds), old.measure(operation, seconds)
    return first, second


def check_out(ref: str, folder: Path) -> None:
    """Write a commit's files into the folder."""
    archive = subprocess.Popen(
        ["git", "archive", ref, "session_service"], cwd=ROOT, stdout=subprocess.PIPE
    )
    with archive, tarfile.open(fileobj=archive.stdout, mode="r|") as files:
        files.extractall(folder, filter="data")
    if archive.returncode:
        raise SystemExit(f"git knows no commit {ref}")


def _t_quantile(freedom: int) -> float:
    """Return Student's t for 97.5 % (Cornish-Fisher; off by 0.2 % at 9 degrees of freedom)."""
    z = statistics.NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("ref", help="the commit to compare with, such as v0.1.0")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=2, help="of each run of the load")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
