"""Every YAML file of the repository, and the resources that the chart renders."""

import subprocess
from pathlib import Path

import pytest
from yamllint import linter
from yamllint.config import YamlLintConfig

from deploy.chart import CHART, render, value_sets
from tests.support.processes import ROOT

RULES = YamlLintConfig((ROOT / "deploy/yamllint.yaml").read_text())


def yaml_files() -> list[Path]:
    """Return the YAML files of the repository but the templates of the chart, which are none."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.yml", "*.yaml"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = (ROOT / line for line in listed.stdout.splitlines())
    return [file for file in files if not file.is_relative_to(CHART / "templates")]


def problems(text: str) -> list[str]:
    return [f"{each.line}: {each.message}" for each in linter.run(text, RULES)]


@pytest.mark.parametrize("file", yaml_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_yaml_files_are_clean(file: Path) -> None:
    """Find nothing with yamllint in a file."""
    assert problems(file.read_text()) == []


@pytest.mark.parametrize("values", value_sets())
def test_the_rendered_chart_is_clean(values: str) -> None:
    """Find nothing with yamllint in the resources, however the templates indent them."""
    for name, text in render(value_sets()[values]).items():
        if name.endswith(".yaml"):
            assert problems(text.lstrip()) == [], name
