"""Alerts, runbooks, dashboard and provisioning: complete, and in step with each other."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import yaml

from session_service.metrics.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs/runbooks"
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
DASHBOARD = GRAFANA / "dashboards/session-service.json"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
COLUMNS = 24  # of a dashboard

# A metric of the service, and not a recorded series, such as job:session_service_…:ratio_rate1h.
METRIC = r"(?<![:\w])(?:http_server|db_client|session_service)_\w+"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def rules(file: str) -> list[dict[str, Any]]:
    """Return the rules of all groups of a file, e.g. ``alerts.yml``."""
    return [rule for group in load(PROMETHEUS / file)["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard, without the headings of its rows."""
    found = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def test_every_alert_is_explained() -> None:
    """An alert has a severity, a summary, a description and its runbook page."""
    for rule in rules("alerts.yml"):
        assert rule["labels"]["severity"] in ("critical", "warning")
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook_url"}, rule["alert"]
        assert notes["summary"].endswith(".")
        assert notes["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"


def test_every_alert_has_a_runbook_page() -> None:
    """Each page has the four sections, each with a text, and belongs to an alert."""
    alerts = {rule["alert"] for rule in rules("alerts.yml")}
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == alerts
    for alert in alerts:
        text = (RUNBOOKS / f"{alert}.md").read_text("utf-8")
        title, *sections = re.split(r"^#+ (.*)$\n", text, flags=re.MULTILINE)[1::2]
        bodies = re.split(r"^#+ .*$\n", text, flags=re.MULTILINE)[2:]
        assert (title, sections) == (alert, SECTIONS)
        assert all(len(body.split()) > 5 for body in bodies), alert


def test_every_alert_has_a_test_that_fires_and_one_that_does_not() -> None:
    """For each alert there is a rule test that expects it, and one that expects none."""
    expected = defaultdict(set)
    for file in (PROMETHEUS / "tests").glob("*.yml"):
        for test in load(file)["tests"]:
            for check in test["alert_rule_test"]:
                expected[check["alertname"]].add(bool(check["exp_alerts"]))
    assert expected == {rule["alert"]: {True, False} for rule in rules("alerts.yml")}


def test_alerts_use_recorded_series() -> None:
    """A recorded series that an alert or a panel names is one of the recording rules."""
    recorded = {rule["record"] for rule in rules("rules.yml")}
    texts = [rule["expr"] for rule in rules("alerts.yml")]
    texts += [target["expr"] for panel in panels() for target in panel["targets"]]
    named = set(re.findall(r"\bjob:\w+:\w+", " ".join(texts)))
    assert named
    assert named <= recorded


def test_every_metric_that_is_named_exists() -> None:
    """Rules, their tests, panels, runbooks and docs name series of the catalogue only."""
    series = set()
    for family in CATALOGUE:
        suffixes = ("_bucket", "_count", "_sum") if family.kind == "histogram" else ("",)
        series |= {family.name + suffix for suffix in suffixes}
    files = [DASHBOARD, *PROMETHEUS.glob("**/*.yml"), *RUNBOOKS.glob("*.md")]
    for file in files:
        named = set(re.findall(METRIC, file.read_text("utf-8")))
        assert named <= series, file
        assert named or file not in (DASHBOARD, PROMETHEUS / "rules.yml", PROMETHEUS / "alerts.yml")


def test_the_docs_have_every_metric() -> None:
    """docs/monitoring.md has a row for each metric, with its type and its labels and values."""
    text = (ROOT / "docs/monitoring.md").read_text("utf-8")
    cells = re.findall(rf"^\| `({METRIC})` \| ([^|]+) \| ([^|]*)\|", text, re.MULTILINE)
    rows = {name: (kind.strip().partition(",")[0], labels) for name, kind, labels in cells}
    assert set(rows) == {family.name for family in CATALOGUE}
    for family in CATALOGUE:
        kind, labels = rows[family.name]
        assert kind == family.kind
        assert re.findall(r"`(\w+)`", labels) == [*family.labels, *family.values]


def test_the_docs_have_every_alert() -> None:
    """docs/monitoring.md lists the alerts with their severity, and links their pages."""
    severities = defaultdict(set)
    for rule in rules("alerts.yml"):
        severities[rule["alert"]].add(rule["labels"]["severity"])
    expected = {
        f"| [{alert}](runbooks/{alert}.md) | {found.pop() if len(found) == 1 else 'both'} |"
        for alert, found in severities.items()
    }
    text = (ROOT / "docs/monitoring.md").read_text("utf-8")
    assert set(re.findall(r"^\| \[\w+\]\(\S+\) \| \w+ \|", text, re.MULTILINE)) == expected


def test_the_dashboard_is_well_formed() -> None:
    """Panels have ids and queries of their own, do not overlap, and use the chosen data source."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    assert dashboard["schemaVersion"] >= 39
    assert dashboard["uid"]
    assert dashboard["title"]
    variables = {each["name"]: each["type"] for each in dashboard["templating"]["list"]}
    assert variables == {"datasource": "datasource", "job": "query"}
    assert max(Counter(panel["id"] for panel in dashboard["panels"]).values()) == 1
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert max(Counter(target["refId"] for target in panel["targets"]).values()) == 1
        for target in panel["targets"]:
            assert 'job=~"$job"' in target["expr"]


def test_compose_provides_the_files() -> None:
    """Compose mounts files that exist, and Prometheus scrapes services that compose has."""
    services = load(ROOT / "docker-compose.yml")["services"]
    mounts = [mount for each in services.values() for mount in each.get("volumes", ())]
    sources = [mount.partition(":")[0] for mount in mounts if mount.startswith("./")]
    assert "./deploy/prometheus" in sources
    assert all((ROOT / source).exists() for source in sources)
    (scrape,) = load(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    (found,) = scrape["dns_sd_configs"]
    built = {name: each for name, each in services.items() if "build" in each}
    assert set(found["names"]) == set(built)
    assert {each["environment"]["METRICS_PORT"] for each in built.values()} == {str(found["port"])}
    (source,) = load(GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = load(GRAFANA / "provisioning/dashboards/session-service.yml")["providers"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounts
