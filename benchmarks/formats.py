"""Compare the store's time per operation with another commit's, at the same number of sessions.

    python -m benchmarks.formats REF [--sessions 1000000] [--store Valkey] [--rounds 7]

Both services run at the same time, each on a store of its own, and are measured in turn, in
alternating order. The store of REF, a commit from before decision 0028, has no huge pages.
"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from benchmarks import report, storetime
from benchmarks.against import check_out
from benchmarks.population import Population, servers
from benchmarks.processes import end_on_sigterm
from benchmarks.report import say

_OPERATIONS = ("heartbeat", "create", "end")
_SAMPLES = 4000


def main() -> None:
    options = _options()
    end_on_sigterm()
    program = servers()[options.store]
    micros: dict[str, list[tuple[float, float]]] = defaultdict(list)  # of REF, and now
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        check_out(options.ref, folder)
        say(f"creating {options.sessions:,} sessions on each")
        old = Population(stack, options.sessions, program, code=folder, has_huge_pages=False)
        old.service.rest()
        new = Population(stack, options.sessions, program)
        new.service.rest()
        for number in range(-1, options.rounds):
            order = (old, new) if number % 2 else (new, old)
            times = {}
            for each in order:
                with each.service.awake():
                    times[each] = storetime.measure(each, _SAMPLES)
            if number >= 0:  # round -1 is the warm-up
                for operation in _OPERATIONS:
                    pair = times[old][operation].micros, times[new][operation].micros
                    micros[operation].append(pair)
        old.service.wake()
        new.service.wake()
    print(
        f"\n{report.machine()}\n\nTime of {new.server} in µs, at {options.sessions:,} sessions;"
        f" old is {options.ref}"
    )
    head = ("", "old", "new", "ratio", "min to max")
    report.print_table(head, [_cells(name, pairs) for name, pairs in micros.items()])


def _cells(operation: str, pairs: list[tuple[float, float]]) -> tuple[str, ...]:
    old, new = (statistics.median(each) for each in zip(*pairs, strict=True))
    ratios = [after / before for before, after in pairs]
    return (
        operation,
        f"{old:.1f}",
        f"{new:.1f}",
        f"{statistics.median(ratios):.2f}x",
        f"{min(ratios):.2f}x to {max(ratios):.2f}x",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("ref", help="the commit to compare with, such as 2752128")
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--store", choices=("Valkey", "Redis"), default="Valkey")
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
