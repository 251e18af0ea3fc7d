"""Every YAML file of the repository, and the compose files with each of their profiles."""

import subprocess
from pathlib import Path

import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from deploy.chart import CHART, render, value_sets
from tests.support.processes import ROOT
from tests.support.tools import need

RULES = YamlLintConfig((ROOT / "deploy/yamllint.yaml").read_text())


def yaml_files() -> list[Path]:
    """Return the YAML files of the repository but the templates of the chart, which are none."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.yml", "*.yaml"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = (ROOT / line for line in listed.stdout.splitlines())
    return [file for file in files if not file.is_relative_to(CHART / "templates")]


def problems(text: str, without: str = "") -> list[str]:
    """Return what yamllint finds in a text, except by the rule ``without``."""
    found = linter.run(text, RULES)
    return [f"{each.line}: {each.message}" for each in found if each.rule != without]


@pytest.mark.parametrize("file", yaml_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_yaml_files_are_clean(file: Path) -> None:
    """Find nothing with yamllint in a file."""
    assert problems(file.read_text()) == []


@pytest.mark.parametrize("values", value_sets())
def test_the_rendered_chart_is_clean(values: str) -> None:
    """Find nothing with yamllint in the resources but long lines, which values can cause."""
    for name, text in render(value_sets()[values]).items():
        if name.endswith(".yaml"):
            assert problems(text.lstrip(), without="line-length") == [], name


def compose_files() -> list[Path]:
    return [file for file in yaml_files() if "compose" in file.name]


def profiles_of(file: Path) -> list[str]:
    """Return the profiles of a compose file, and the empty name for none."""
    services = yaml.safe_load(file.read_text())["services"].values()
    return ["", *sorted({name for each in services for name in each.get("profiles", [])})]


@pytest.mark.parametrize(
    ("file", "profile"),
    [(file, profile) for file in compose_files() for profile in profiles_of(file)],
    ids=lambda value: value if isinstance(value, str) else str(value.relative_to(ROOT)),
)
def test_compose_accepts_each_profile(file: Path, profile: str) -> None:
    """docker-compose finds no mistake in a file with a profile."""
    need("docker-compose")
    chosen = ["--profile", profile] if profile else []
    done = subprocess.run(
        ["docker-compose", "-f", str(file), *chosen, "config", "--quiet"],
        cwd=file.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
