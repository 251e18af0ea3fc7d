"""Tools that some tests need and a machine may lack; the summary counts the skipped tests.

A fixture calls ``need("node")``; a test is marked ``@needs("redis-server")``.
"""

import shutil
from collections import Counter

import pytest

_PREFIX = "missing tool: "


def need(*tools: str) -> None:
    """Skip the test unless all programs are on the PATH."""
    for tool in tools:
        if shutil.which(tool) is None:
            skip_without(tool)


def skip_without(tool: str) -> None:
    """Skip the test because the machine lacks a tool, such as a program or a library."""
    pytest.skip(_PREFIX + tool)


def needs(tool: str) -> pytest.MarkDecorator:
    """Mark a test that needs a program on the PATH."""
    return pytest.mark.skipif(shutil.which(tool) is None, reason=_PREFIX + tool)


def report_missing(reporter: pytest.TerminalReporter) -> None:
    """Print how many tests were skipped for each missing tool."""
    skipped = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in reporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple)
    )
    for reason, tests in sorted(skipped.items()):
        reporter.write_line(f"skipped {tests}: {reason}")
    if not skipped:
        reporter.write_line("skipped 0: every tool is there")
