"""Scenarios of the fault harness as tests; ``make chaos`` runs them for longer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop

from chaos.chaos import SCENARIOS
from chaos.network import is_possible
from tests.support.clocks import library

LONG = {"python-client"}  # of which tests/system/test_client.py has a short form

HAS_PROC = Path("/proc/self/fd").exists()


def scenarios(often: Mapping[str, int]) -> pytest.MarkDecorator:
    """Parametrize a test with the names of scenarios, and how often each breaks something."""
    each = [_possible(name, number) for name, number in often.items()]
    return pytest.mark.parametrize(("name", "often"), each)


def check(name: str, often: int) -> None:
    """Run a scenario: no response is false, no acknowledged change is lost, no key is orphaned."""
    row = uvloop.run(SCENARIOS[name][1](often))
    assert row.problems == []


def _possible(name: str, often: int) -> Any:
    """Return a scenario, which is skipped if the machine lacks a tool for it, or is a proof."""
    lacks = {
        "missing tool: loopback addresses beside 127.0.0.1": "isolated" in name
        and not is_possible(),
        "missing tool: libfaketime": name.startswith("clock-") and library() is None,
        "missing tool: /proc": name == "cancels" and not HAS_PROC,
    }
    marks = [pytest.mark.skipif(lack, reason=reason) for reason, lack in lacks.items()]
    marks += [pytest.mark.proof] if name in LONG else []
    return pytest.param(name, often, id=name, marks=marks)
