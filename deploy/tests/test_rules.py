"""The configuration of Prometheus, checked by its own promtool."""

import subprocess

from tests.support.processes import ROOT
from tests.support.tools import needs

FOLDER = ROOT / "deploy/prometheus"


def promtool(*arguments: str) -> str:
    """Run promtool, which has to succeed; return its output."""
    result = subprocess.run(
        ["promtool", *arguments],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@needs("promtool")
def test_prometheus_accepts_the_configuration() -> None:
    """The scrape configuration and all rules are valid."""
    assert "18 rules found" in promtool("check", "config", "prometheus.yml")


@needs("promtool")
def test_alerts_fire_when_they_should() -> None:
    """Every alert fires in its test, with its texts, and is quiet in the other."""
    files = sorted(str(file.relative_to(FOLDER)) for file in FOLDER.glob("tests/*.yml"))
    assert files
    promtool("test", "rules", *files)
