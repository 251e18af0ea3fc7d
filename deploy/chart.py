"""Renders the Helm chart without a cluster.

``build/deploy/bin/python -m deploy.chart`` writes kubernetes/session-service.yaml, which is the
chart with its default values.
"""

from pathlib import Path
from typing import Any

import helm_python
import yaml

FOLDER = Path(__file__).parent
CHART = FOLDER / "helm/session-service"
PLAIN = FOLDER / "kubernetes/session-service.yaml"

NAME = "session-service"
_HELMS_OWN = ("app.kubernetes.io/managed-by:", "helm.sh/chart:")  # labels that only Helm may set
_HEADER = """\
# The chart in ../helm with its default values, less Helm's own labels. Change the chart, and then
# make this file from it: build/deploy/bin/python -m deploy.chart
# Adapt the image, and create the Secret in the namespace first (docs/deploying.md).
"""

Document = dict[str, Any]


def value_sets() -> dict[str, Document]:
    """Return the values to check the chart with: the defaults, and each file of ci/."""
    files = sorted(CHART.glob("ci/*-values.yaml"))
    named = {file.name.removesuffix("-values.yaml"): file for file in files}
    return {"default": {}} | {
        name: yaml.safe_load(file.read_text()) for name, file in named.items()
    }


def render(values: Document, namespace: str = "chat") -> dict[str, str]:
    """Return the rendered templates by file name, e.g. ``service.yaml``; empty ones are left out.

    Raises HelmRenderError if a template refuses the values.
    """
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name=NAME, namespace=namespace)
    return {Path(path).name: text for path, text in sorted(files.items()) if text.strip()}


def documents(values: Document) -> list[Document]:
    """Return the rendered resources."""
    texts = [text for file, text in render(values).items() if file.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def plain_manifests() -> str:
    """Return the chart with its default values as a file for ``kubectl apply``."""
    files = [text for file, text in render({}).items() if file.endswith(".yaml")]
    lines = "---\n".join(text.strip() + "\n" for text in files).splitlines(keepends=True)
    return _HEADER + "".join(line for line in lines if not line.strip().startswith(_HELMS_OWN))


if __name__ == "__main__":
    PLAIN.write_text(plain_manifests())
