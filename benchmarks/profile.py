"""Profile the service under load, by py-spy or else by cProfile.

python -m benchmarks.profile [DELETE|GET|heartbeat|create ...] [--seconds 5]
"""

import argparse
import pstats
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, cast

from benchmarks.contest import CREATE, DELETE, OPERATIONS, Operation
from benchmarks.load import Load, create_sessions, measure, new_session
from benchmarks.peers import tool
from benchmarks.processes import LOAD_CORE, Server, end_on_sigterm, on, service, store
from benchmarks.report import machine, print_table, say

# A function belongs to the first layer whose string is in its file's path.
_LAYERS = (
    ("session_service/web", "session_service.web"),
    ("session_service/store", "session_service.store"),
    ("session_service", "session_service, the rest"),
    ("redis/", "redis-py, and hiredis where it calls that"),
    ("aiohttp/", "aiohttp, with multidict and yarl"),
    ("multidict/", "aiohttp, with multidict and yarl"),
    ("yarl/", "aiohttp, with multidict and yarl"),
    ("asyncio/", "asyncio and uvloop: turning, polling, reading"),
    ("built in", "built in, or compiled"),
)
_ELSE = "all else"
_SHOWN = 25
_SAMPLES_A_SECOND = 400


class Profile(NamedTuple):
    """Functions, such as "name (file)", by their share of the time: alone, and with callees."""

    alone: dict[str, float]
    inclusive: dict[str, float]


def main() -> None:
    options = _options()
    end_on_sigterm()
    sampler = _py_spy()
    print(f"{machine()}\n\nProfiled by {'py-spy' if sampler else 'cProfile, which distorts'}.")
    for operation in (o for o in OPERATIONS if o.name in options.operations):
        with store() as store_url, tempfile.TemporaryDirectory(prefix="bench-") as folder:
            output = Path(folder) / "profile"
            with service(store_url) as another:
                load = _load(another, operation, options.seconds)
            say("measuring")
            if sampler:
                with (
                    service(store_url) as server,
                    _sampled(sampler, server, options.seconds, output),
                ):
                    cost = _run(server, load, options.seconds)
                profile = _read_samples(output)
            else:
                with service(store_url, before=("-m", "cProfile", "-o", str(output))) as server:
                    cost = _run(server, load, options.seconds)
                profile = _read_calls(output)
        _print(operation, profile, cost)


def _load(server: Server, operation: Operation, seconds: int) -> Load:
    say(f"{operation.name}: making sessions")
    if operation is CREATE:
        lines = [new_session() for _ in range(25_000)]
    else:
        lines = create_sessions(server.port, 25_000 * (seconds + 1 if operation is DELETE else 1))
    return Load(operation.method, operation.path, lines)


def _run(server: Server, load: Load, seconds: int) -> float:
    """Put the load on; return the CPU time per request in microseconds."""
    port = server.port
    used = server.cpu_seconds
    result = measure(port, load, seconds=seconds + 1)  # the sampler starts later
    return (server.cpu_seconds - used) / result.requests * 1e6


@contextmanager
def _sampled(py_spy: str, server: Server, seconds: int, output: Path) -> Iterator[None]:
    _ = server.port  # wait until it listens
    command = [py_spy, "record", "--pid", str(server.pid), "--duration", str(seconds)]
    command += ["--rate", str(_SAMPLES_A_SECOND), "--format", "raw", "--output", str(output)]
    with on(LOAD_CORE):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    try:
        yield
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    if process.returncode:
        raise RuntimeError(f"py-spy: {stderr}")


def _read_samples(output: Path) -> Profile:
    alone: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    for line in output.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        functions = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        alone[functions[-1]] += int(count)
        for function in set(functions):
            inclusive[function] += int(count)
    total = alone.total()
    return Profile(
        {function: count / total for function, count in alone.items()},
        {function: count / total for function, count in inclusive.items()},
    )


def _read_calls(output: Path) -> Profile:
    alone: dict[str, float] = defaultdict(float)
    inclusive: dict[str, float] = defaultdict(float)
    # (file, line, name): (calls, all calls, own seconds, seconds with callees, callers)
    stats = cast("Any", pstats.Stats(str(output))).stats
    for (file, _, name), (_, _, own, whole, _) in stats.items():
        place = "built in" if file == "~" else re.sub(r".*/(?=[^/]+/[^/]+/[^/]+$)", "", file)
        alone[f"{name} ({place})"] += own
        inclusive[f"{name} ({place})"] += whole
    total = sum(alone.values())
    return Profile(
        {function: seconds / total for function, seconds in alone.items()},
        {function: seconds / total for function, seconds in inclusive.items()},
    )


def _print(operation: Operation, profile: Profile, cost: float) -> None:
    layers: dict[str, float] = defaultdict(float)
    for function, share in profile.alone.items():
        place = function.rpartition("(")[2]
        layers[next((name for path, name in _LAYERS if path in place), _ELSE)] += share
    # Leave out the functions that call everything.
    inclusive = {name: share for name, share in profile.inclusive.items() if share < 0.99}

    def rows(shares: dict[str, float]) -> Iterator[tuple[str, str, str]]:
        for name, share in sorted(shares.items(), key=itemgetter(1), reverse=True)[:_SHOWN]:
            yield f"`{name}`", f"{share:.1%}", f"{share * cost:.1f}"

    print(f"\n## {operation.name}: {cost:.1f} µs of the process's CPU time a request")
    head = ("share", "µs a request")
    print_table(("where", *head), rows(layers))
    print_table(("function, by itself", *head), rows(profile.alone))
    print_table(("function, with what it calls", *head), rows(inclusive))


def _py_spy() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    if beside.exists():
        return str(beside)
    if found := shutil.which("py-spy"):
        return found
    try:
        return str(tool("py-spy"))
    except (OSError, subprocess.SubprocessError):
        return None


def _options() -> argparse.Namespace:
    names = [operation.name for operation in OPERATIONS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("operations", nargs="*", default=names[:2], metavar="|".join(names))
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    if unknown := set(options.operations) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    main()
