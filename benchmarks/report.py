"""The printed report: figures with their targets, the machine, the versions."""

import json
import operator
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import msgspec
from redis import Redis

from benchmarks.load import WRK
from benchmarks.processes import ROOT

RESULTS = ROOT / "build"


Bounds = tuple[float, float]  # the least that is acceptable, and the aim


class Row(msgspec.Struct, frozen=True):
    """A figure, its minimum and maximum over the rounds, and its targets."""

    what: str
    bounds: Bounds
    form: str
    measured: float
    low: float
    high: float
    less: bool = False  # lower is better

    @classmethod
    def ratio(
        cls,
        what: str,
        bounds: Bounds,
        form: str,
        ours: Sequence[float],
        theirs: Sequence[float],
        *,
        less: bool = False,
    ) -> Self:
        """Return the row of one median over another; the spread is of the ratios of each round."""
        each = [a / b for a, b in zip(ours, theirs, strict=True)]
        measured = statistics.median(ours) / statistics.median(theirs)
        return cls(what, bounds, form, measured, min(each), max(each), less)

    @classmethod
    def median(
        cls,
        what: str,
        bounds: Bounds,
        form: str,
        values: Sequence[float],
        *,
        less: bool = False,
    ) -> Self:
        """Return the row of a median."""
        measured = statistics.median(values)
        return cls(what, bounds, form, measured, min(values), max(values), less)

    @property
    def verdict(self) -> str:
        """The target that the figure reaches."""
        reached = operator.le if self.less else operator.ge
        at_least, aim = self.bounds
        if reached(self.measured, aim):
            return "aim"
        return "at least" if reached(self.measured, at_least) else "**neither**"

    def cells(self) -> tuple[str, ...]:
        bound = ("≤ " if self.less else "≥ ") + self.form
        return (
            self.what,
            *(bound.format(value) for value in self.bounds),
            self.form.format(self.measured),
            f"{self.form.format(self.low)} to {self.form.format(self.high)}",
            self.verdict,
        )


def say(progress: str) -> None:
    """Print progress to standard error, apart from the tables."""
    print(f"{time.strftime('%H:%M:%S')} {progress}", file=sys.stderr, flush=True)


def print_rows(rows: Iterable[Row]) -> None:
    print_table(
        ("", "at least", "aim", "measured", "min to max", "reaches"), (row.cells() for row in rows)
    )


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")


def machine() -> str:
    """Return the processor and the number of cores."""
    cpus = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpus.read_text() if cpus.exists() else "")
    name = model[1] if model else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def server_name(redis: Redis) -> str:
    """Return the name and version of a store server, e.g. ``Valkey 9.1.2``."""
    info = redis.info("server")
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"


def versions(redis: Redis) -> str:
    """Return the versions of the measured programs and of the load generator."""
    packages = ("aiohttp", "redis", "hiredis", "uvloop", "msgspec")
    load = "a generator in Python"
    if WRK:
        output = subprocess.run([WRK, "-v"], capture_output=True, text=True, check=False).stdout
        load = " ".join(output.split()[:2])
    return ", ".join(
        [
            f"{platform.python_implementation()} {platform.python_version()}",
            *(f"{'redis-py' if name == 'redis' else name} {version(name)}" for name in packages),
            server_name(redis),
            load,
        ]
    )


def save(name: str, content: dict[str, Any]) -> Path:
    """Write build/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    return file


def saved_rows(name: str) -> list[Row]:
    """Return the rows of an earlier run, or [] if there was none."""
    file = RESULTS / f"{name}.json"
    if not file.exists():
        return []
    return [msgspec.convert(row, Row) for row in json.loads(file.read_bytes())["rows"]]
